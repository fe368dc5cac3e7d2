"""Numbers, defaults and tags of the exports of one training job, over all models that came from it."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from model_service.storage.migrations import MIGRATIONS
from tests.api.finished import complete
from tests.factories import new_model

JOBS = "/api/v1/export/jobs"


@pytest.fixture
def run(http: FlaskClient) -> str:
    answer: Any = http.post("/api/v1/training", json={"name": "run"}).json
    return str(answer["id"])


def model_of(http: FlaskClient, run: str, content: bytes) -> str:
    model: Any = http.post("/api/v1/models", json=new_model(training_job_id=run)).json
    http.post(f"/api/v1/models/{model['model_id']}/upload", data=content)
    return str(model["model_id"])


def ask(http: FlaskClient, model_id: str, **fields: Any) -> dict[str, Any]:
    answer: Any = http.post(JOBS, json={"model_id": model_id, "export_format": "onnx", **fields})
    assert answer.status_code == 202, answer.text
    return dict(answer.json)


def test_versions_count_the_exports_of_the_model_and_of_the_training_job(
    http: FlaskClient, run: str, model_id: str
) -> None:
    first, second = model_of(http, run, b"one"), model_of(http, run, b"two")
    made = [ask(http, each) for each in (first, second, first)]
    assert [(job["version"], job["training_version"]) for job in made] == [(1, 1), (1, 2), (2, 3)]
    http.post(f"/api/v1/models/{model_id}/upload", data=b"three")
    alone = ask(http, model_id)
    assert (alone["version"], alone["training_version"], alone["is_training_default"]) == (1, None, False)
    by_job: Any = http.post(JOBS, json={"training_job_id": run, "export_format": "onnx"}).json
    assert by_job["training_version"] == 4


def test_a_training_job_has_one_default_and_each_of_its_models_too(
    http: FlaskClient, database: Database, run: str
) -> None:
    jobs = [ask(http, model_of(http, run, content))["id"] for content in (b"one", b"two")]
    for job_id in jobs:
        complete(database, job_id, package=job_id.encode())
        assert http.post(f"/api/v1/export/{job_id}/set-default").status_code == 200
    listed: Any = http.get(f"/api/v1/training/{run}/exports?is_default=true").json
    assert [job["id"] for job in listed["jobs"]] == [jobs[1]]
    for job_id, of_training in zip(jobs, (False, True), strict=True):
        job: Any = http.get(f"{JOBS}/{job_id}").json
        assert (job["is_default"], job["is_training_default"]) == (True, of_training)
        mine: Any = http.get(f"/api/v1/models/{job['model_id']}/exports?is_default=true").json
        assert [each["id"] for each in mine["jobs"]] == [job_id]


def test_tags_are_found_within_a_training_job(http: FlaskClient, run: str) -> None:
    model_id = model_of(http, run, b"one")
    tagged = ask(http, model_id, version_tag="production")
    ask(http, model_id, version_tag="staging")
    for path in (f"/api/v1/training/{run}/exports", f"/api/v1/models/{model_id}/exports"):
        found: Any = http.get(f"{path}?version_tag=production&status=pending&export_format=onnx").json
        assert [job["id"] for job in found["jobs"]] == [tagged["id"]]


def test_exports_of_an_earlier_version_are_numbered_in_the_order_of_their_creation(
    http: FlaskClient, database: Database, run: str
) -> None:
    models = [model_of(http, run, content) for content in (b"one", b"two")]
    made = [ask(http, models[n % 2])["id"] for n in range(6)]
    for job_id in made[2:4]:
        complete(database, job_id, package=job_id.encode())
        http.post(f"/api/v1/export/{job_id}/set-default")
    fields = ("training_version", "is_training_default")
    before = list(database.export_jobs.find({}, sort=[("_id", 1)]))
    old = [{name: value for name, value in job.items() if name not in fields} for job in before]
    upgrade = next(m.documents["export_jobs"] for m in MIGRATIONS if m.version == 2)
    # In the database, as a migration meets them, in two pages and interrupted after the first.
    database.export_jobs.update_many({}, {"$unset": dict.fromkeys(fields, "")})
    for page in (old[:3], old[:3], old[3:]):
        for job in upgrade(database, page):
            database.export_jobs.replace_one({"_id": job["_id"]}, job)
    assert list(database.export_jobs.find({}, sort=[("_id", 1)])) == before
    # And as they come from an archive, into an empty database.
    database.export_jobs.delete_many({})
    for page in (old[:3], old[3:]):
        database.export_jobs.insert_many(upgrade(database, page))
    numbers = [job["training_version"] for job in database.export_jobs.find({})]
    assert sorted(numbers) == list(range(1, 7))
    assert database.export_jobs.count_documents({"is_training_default": True}) == 1
