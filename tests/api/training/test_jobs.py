"""Training jobs: the runs that models came from."""

import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.actor import Actor, Permission, acting_as
from model_service.api.http.context import EXTENSION
from model_service.errors import Conflict, NotFound, NotPermitted
from model_service.services import Services
from model_service.services.files.files import NewFile
from model_service.storage.common.db import Database
from tests.factories import model_fields, new_model

TRAINING = "/api/v1/training"
UNKNOWN = "8f14e45f-ceea-467f-9f1b-2d3a4b5c6d7e"
RUN = {
    "name": "vision/digits-run",
    "algorithm": "convnet",
    "framework": "pytorch",
    "task_type": "image_classification",
    "hyperparameters": {"lr": 0.01, "layers": [32, 64]},
    "metrics": {"val": {"accuracy": 0.97}},
    "config": {"epochs": 10},
    "environment": {"python": "3.12", "gpu": None},
    "code": {"repository": "https://example.org/digits.git", "commit": "0" * 40, "path": "train.py"},
    "tags": ["nightly"],
    "created_by": "ada",
}


def created(http: FlaskClient, **fields: Any) -> Any:
    answer = http.post(TRAINING, json=RUN | fields)
    assert answer.status_code == 201, answer.json
    return answer.json


def services_of(app: Flask) -> Services:
    found: Services = app.extensions[EXTENSION].services
    return found


def test_a_run_is_kept_as_it_was_told(http: FlaskClient) -> None:
    answer = http.post(TRAINING, json=RUN)
    assert answer.status_code == 201
    job = answer.json
    assert {key: job[key] for key in RUN} == RUN
    assert (job["namespace"], job["status"], job["revision"]) == ("vision", "pending", 1)
    assert (job["started_at"], job["finished_at"], job["duration_s"], job["error"]) == (None,) * 4
    read = http.get(answer.headers["Location"])
    assert read.json == job
    assert read.headers["ETag"] == '"r1"'
    assert http.get(f"{TRAINING}/{job['id']}", headers={"If-None-Match": '"r1"'}).status_code == 304


def test_its_status_goes_only_forward_and_sets_its_times(http: FlaskClient) -> None:
    url = f"{TRAINING}/{created(http)['id']}"
    refused = http.patch(url, json={"status": "completed"})
    assert refused.status_code == 409
    assert refused.json["error"]["details"]["allowed"] == ["cancelled", "failed", "running"]

    running = http.patch(url, json={"status": "running"}).json
    assert running["started_at"] is not None
    assert running["finished_at"] is None
    assert http.patch(url, json={"status": "running"}).json == running  # no change, no revision
    failed = http.patch(url, json={"status": "failed", "error": "out of memory"}).json
    assert failed["error"] == "out of memory"
    assert failed["started_at"] == running["started_at"]
    assert failed["duration_s"] >= 0
    for status in ("running", "completed", "pending"):
        assert http.patch(url, json={"status": status}).status_code == 409


def test_a_run_of_the_past_has_the_times_it_had(http: FlaskClient) -> None:
    times = {"started_at": "2024-01-01T13:00:00.1234+01:00", "finished_at": "2024-01-01T12:01:30.5Z"}
    job = created(http, status="completed", **times)
    assert job["started_at"] == "2024-01-01T12:00:00.123000Z"
    assert job["duration_s"] == 90.377
    assert http.get(f"{TRAINING}/{job['id']}").json == job
    backwards = {"started_at": times["finished_at"], "finished_at": times["started_at"]}
    for wrong in (
        backwards,
        {"started_at": "2024-01-01T12:00:00"},
        {"started_at": "0001-01-01T00:00:00+10:00"},
        {"status": "done"},
        {"metrics": {"$where": 1}},
        {"unknown": 1},
        {"code": {"commit": ""}},
    ):
        assert http.post(TRAINING, json=RUN | wrong).status_code == 422, wrong


def test_only_what_is_sent_changes_and_a_stale_change_is_refused(http: FlaskClient) -> None:
    job = created(http)
    url = f"{TRAINING}/{job['id']}"
    changed = http.patch(url, json={"metrics": {"loss": 0.1}, "code": None}, headers={"If-Match": '"r1"'})
    assert changed.headers["ETag"] == '"r2"'
    assert changed.json == job | {
        "metrics": {"loss": 0.1},
        "code": None,
        "revision": 2,
        "updated_at": changed.json["updated_at"],
    }
    stale = http.patch(url, json={"tags": []}, headers={"If-Match": '"r1"'})
    assert stale.status_code == 412
    assert stale.json["error"]["details"]["etag"] == '"r2"'
    assert http.patch(url, json={"name": "other"}).status_code == 422
    assert http.patch(f"{TRAINING}/{UNKNOWN}", json={"tags": []}).status_code == 404
    assert http.get(f"{TRAINING}/nonsense").json["error"]["code"] == "malformed_id"


def test_lists_are_paged_newest_first_and_filtered(http: FlaskClient) -> None:
    first, second, third = (
        created(http, name="run", tags=["a", f"t{number}"], algorithm=f"a{number}")["id"]
        for number in range(3)
    )
    http.patch(f"{TRAINING}/{second}", json={"status": "running"})

    def ids(query: str) -> list[str]:
        return [job["id"] for job in http.get(f"{TRAINING}?{query}").json["training_jobs"]]

    assert ids("") == [third, second, first]
    assert ids("page=2&limit=2") == [first]
    assert ids("status=running") == [second]
    assert ids("tags=t0, t2") == [third, first]
    assert ids("algorithm=a1&tags=a&name=run") == [second]
    assert ids("created_by=nobody") == []
    assert http.get(f"{TRAINING}?limit=2").json["pagination"]["total"] == 3
    assert http.get(f"{TRAINING}?colour=red").status_code == 422


def test_a_repeated_request_notes_one_run(http: FlaskClient) -> None:
    headers = {"Idempotency-Key": "run-1"}
    first = http.post(TRAINING, json=RUN, headers=headers)
    again = http.post(TRAINING, json=RUN, headers=headers)
    assert again.status_code == 201
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert http.get(TRAINING).json["pagination"]["total"] == 1
    assert http.post(TRAINING, json=RUN | {"tags": []}, headers=headers).status_code == 422


def test_a_model_names_the_run_it_came_from(http: FlaskClient) -> None:
    job_id = created(http)["id"]
    answer = http.post("/api/v1/models", json=new_model(training_job_id=job_id.upper()))
    model_url = f"/api/v1/models/{answer.json['model_id']}"
    assert http.get(model_url).json["training_job_id"] == job_id
    assert http.get(f"/api/v1/models?training_job_id={job_id}").json["pagination"]["total"] == 1
    assert http.post("/api/v1/models", json=new_model(training_job_id=UNKNOWN)).status_code == 404
    assert http.post("/api/v1/models", json=new_model(training_job_id="x")).status_code == 400
    assert http.patch(model_url, json={"training_job_id": UNKNOWN}).status_code == 404

    assert http.delete(f"{TRAINING}/{job_id}").status_code == 409
    http.delete(model_url)  # into the trash, from where it may come back
    assert http.delete(f"{TRAINING}/{job_id}").status_code == 409
    http.delete(f"{model_url}?purge=true")
    assert http.delete(f"{TRAINING}/{job_id}").json["deleted_id"] == job_id
    assert http.get(f"{TRAINING}/{job_id}").status_code == 404
    assert http.delete(f"{TRAINING}/{job_id}").status_code == 404


def test_a_model_can_be_given_another_run_or_none(http: FlaskClient, model_id: str) -> None:
    first, second = created(http)["id"], created(http)["id"]
    for job_id in (first, second, None):
        changed = http.patch(f"/api/v1/models/{model_id}", json={"training_job_id": job_id})
        assert changed.json["training_job_id"] == job_id
    assert http.delete(f"{TRAINING}/{first}").status_code == 200
    assert http.delete(f"{TRAINING}/{second}").status_code == 200


def test_an_export_of_a_run_takes_its_newest_model_that_has_a_file(http: FlaskClient) -> None:
    job_id = created(http)["id"]
    wanted = {"training_job_id": job_id, "export_format": "onnx"}
    assert http.post("/api/v1/export/jobs", json=wanted | {"training_job_id": UNKNOWN}).status_code == 404
    assert http.post("/api/v1/export/jobs", json=wanted).status_code == 404
    models = [
        http.post("/api/v1/models", json=new_model(training_job_id=job_id)).json["model_id"] for _ in range(3)
    ]
    assert http.post("/api/v1/export/jobs", json=wanted).status_code == 404
    for model_id in models[:2]:
        http.post(f"/api/v1/models/{model_id}/upload", data=b"weights", headers={"X-Filename": "m.pt2"})
    export = http.post("/api/v1/export/jobs", json=wanted)
    assert export.status_code == 202, export.json
    assert (export.json["model_id"], export.json["training_job_id"]) == (models[1], job_id)


def test_a_namespace_keeps_its_runs_to_its_readers(app: Flask, http: FlaskClient) -> None:
    vision = created(http)["id"]
    speech = created(http, name="speech/run")["id"]
    training = services_of(app).training_jobs
    reader = Actor("ada", in_namespaces={"vision": frozenset({Permission.READ})})
    with acting_as(reader):
        page = training.page({}, 1, 10)
        assert ([job["_id"] for job in page.items], page.total) == ([vision], 1)
        assert training.get(vision)["name"] == RUN["name"]
        with pytest.raises(NotFound):
            training.get(speech)
        with pytest.raises(NotFound):
            training.update(speech, {"tags": []})
        with pytest.raises(NotPermitted):
            training.update(vision, {"tags": []})
        with pytest.raises(NotPermitted):
            training.delete(vision)
        with pytest.raises(NotPermitted):
            training.create(dict(training.get(vision)))


def test_of_a_runs_models_a_reader_of_one_namespace_knows_no_others(app: Flask, http: FlaskClient) -> None:
    services, job_id = services_of(app), created(http)["id"]
    ids = []
    for name in ("vision/digits", "secret/digits"):
        model = services.models.register(model_fields(name=name, training_job_id=job_id))
        services.files.store(model, iter([b"1"]), NewFile.of_holder("m", "m.pt2", None), sha256=None)
        ids.append(str(model["_id"]))
    job = {
        **dict.fromkeys(("model_id", "optimization_config", "validation_config", "version_tag")),
        "training_job_id": job_id,
        "export_format": "onnx",
        "export_config": {},
    }
    assert str(services.exports.create(**job)["model_id"]) == ids[1]
    within = {namespace: frozenset({Permission.READ, Permission.WRITE}) for namespace in ("vision", "other")}
    with acting_as(Actor("ada", in_namespaces=within)):
        assert str(services.exports.create(**job)["model_id"]) == ids[0]
        services.models.delete(ids[0])
        with pytest.raises(NotFound) as refused:
            services.exports.create(**job)
    assert ids[1] not in str(refused.value)


def test_every_change_is_in_the_audit_log(http: FlaskClient, database: Database) -> None:
    job_id = created(http)["id"]
    http.patch(f"{TRAINING}/{job_id}", json={"status": "running"})
    http.delete(f"{TRAINING}/{job_id}")
    entries = list(database.audit.find({"subject_id": job_id}, sort=[("at", 1), ("_id", 1)]))
    assert [(entry["action"], entry["kind"]) for entry in entries] == [
        ("created", "training_job"),
        ("updated", "training_job"),
        ("deleted", "training_job"),
    ]
    assert entries[1]["details"] == {"fields": ["started_at", "status"]}


def test_a_run_is_never_deleted_under_a_model_that_is_being_registered(
    app: Flask, http: FlaskClient, database: Database
) -> None:
    services = services_of(app)
    outcomes: list[str] = []

    def register(job_id: str) -> None:
        try:
            services.models.register(model_fields(training_job_id=job_id))
        except (NotFound, Conflict):
            outcomes.append("not registered")
        else:
            outcomes.append("registered")

    def delete(job_id: str) -> None:
        try:
            services.training_jobs.delete(job_id)
        except Conflict:
            outcomes.append("not deleted")
        else:
            outcomes.append("deleted")

    for _ in range(15):
        job_id = created(http)["id"]
        outcomes.clear()
        threads = [threading.Thread(target=work, args=(job_id,)) for work in (register, delete)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        named = database.models.count_documents({"training_job_id": job_id})
        there = database.training_jobs.count_documents({"_id": job_id})
        assert sorted(outcomes) in (["deleted", "not registered"], ["not deleted", "registered"]), outcomes
        assert named == there
