"""Cancelling, trying again, the default of a source, and whose exports these are."""

import threading
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.finished import claim, complete, fail, wrong_references
from tests.factories import new_model

URL = "/api/v1/export/jobs"


@pytest.fixture
def with_file(http: FlaskClient, model_id: str) -> str:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    return model_id


@pytest.fixture
def job_id(http: FlaskClient, with_file: str) -> str:
    return str(ask(http, with_file)["id"])


def ask(http: FlaskClient, model_id: str, **fields: Any) -> dict[str, Any]:
    answer = http.post(URL, json={"model_id": model_id, "export_format": "onnx", "reuse": False, **fields})
    assert answer.status_code == 202, answer.text
    body: Any = answer.json
    return dict(body)


@pytest.mark.parametrize("path", [f"{URL}/{{}}/cancel", "/api/v1/export/{}/cancel"])
def test_a_waiting_job_is_cancelled_and_stays_so(
    http: FlaskClient, database: Database, job_id: str, path: str
) -> None:
    for _ in range(2):
        answer = http.post(path.format(job_id))
        assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
    assert len([line for line in answer.json["log"] if "cancelled by anonymous" in line]) == 1
    assert build_stores(database).exports.claim(job_id, worker="w", lease_s=60, max_attempts=3) is None
    assert wrong_references(database) == []


def test_a_running_job_is_cancelled_and_its_worker_can_store_nothing(
    http: FlaskClient, database: Database, job_id: str
) -> None:
    token = claim(database, job_id)
    assert http.post(f"{URL}/{job_id}/cancel").json["status"] == "cancelled"
    exports = build_stores(database).exports
    assert exports.renew(job_id, token, 60) is False
    assert database.transaction(lambda session: exports.complete(job_id, token, {}, session)) is False
    assert http.get(f"{URL}/{job_id}").json["status"] == "cancelled"
    assert wrong_references(database) == []


@pytest.mark.parametrize("end", [complete, fail])
def test_what_has_ended_is_not_cancelled(
    http: FlaskClient, database: Database, job_id: str, end: Any
) -> None:
    end(database, job_id)
    answer = http.post(f"{URL}/{job_id}/cancel")
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")
    assert answer.json["error"]["details"]["status"] in {"completed", "failed"}


@pytest.mark.parametrize("path", [f"{URL}/{{}}/retry", "/api/v1/export/{}/retry"])
def test_a_failed_job_is_tried_again_as_a_new_one(
    http: FlaskClient, database: Database, with_file: str, path: str
) -> None:
    first = ask(http, with_file, version_tag="best", export_config={"opset_version": 18})
    fail(database, first["id"])
    again = http.post(path.format(first["id"]), headers={"Idempotency-Key": "k"})
    assert again.status_code == 202
    job = again.json
    assert (job["status"], job["retry_of"], job["version"]) == ("pending", first["id"], 2)
    for field in ("trace_id", "version_tag", "export_config", "model_id", "export_format"):
        assert job[field] == first[field], field
    assert job["callback_token"] != first["callback_token"]
    assert http.post(path.format(first["id"]), headers={"Idempotency-Key": "k"}).json == job
    assert http.get(f"{URL}/{first['id']}").json["status"] == "failed"
    assert wrong_references(database) == []


def test_what_goes_on_or_is_done_is_not_tried_again(
    http: FlaskClient, database: Database, job_id: str
) -> None:
    for status in ("pending", "completed"):
        if status == "completed":
            complete(database, job_id)
        answer = http.post(f"{URL}/{job_id}/retry")
        assert (answer.status_code, answer.json["error"]["details"]["status"]) == (409, status)


def test_a_retry_needs_the_file_that_was_exported(
    http: FlaskClient, app: Flask, database: Database, with_file: str, job_id: str
) -> None:
    http.post(f"{URL}/{job_id}/cancel")
    http.delete(f"/api/v1/models/{with_file}?purge=true")

    build_stores(database).blobs.sweep(safety_s=-1)
    answer = http.post(f"{URL}/{job_id}/retry")
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")
    assert "upload it again" in answer.json["error"]["message"]


@pytest.mark.parametrize("path", [f"{URL}/{{}}/set-default", "/api/v1/export/{}/set-default"])
def test_a_source_has_one_default(http: FlaskClient, database: Database, with_file: str, path: str) -> None:
    jobs = [ask(http, with_file)["id"] for _ in range(2)]
    refused = http.post(path.format(jobs[0]))
    assert (refused.status_code, refused.json["error"]["details"]["status"]) == (409, "pending")
    for job_id in jobs:
        complete(database, job_id)
        assert http.get(f"{URL}/{job_id}").json["is_default"] is False
    for chosen in (*jobs, jobs[0], jobs[0]):
        assert http.post(path.format(chosen)).json["is_default"] is True
        found = http.get(f"{URL}?is_default=true").json["jobs"]
        assert [job["id"] for job in found] == [chosen]


def test_of_many_who_choose_a_default_at_once_one_wins(
    app: Flask, http: FlaskClient, database: Database, with_file: str
) -> None:
    jobs = [ask(http, with_file)["id"] for _ in range(4)]
    for job_id in jobs:
        complete(database, job_id)
    statuses: list[int] = []

    def choose(job_id: str) -> None:
        with app.test_client() as client:
            statuses.extend(client.post(f"{URL}/{job_id}/set-default").status_code for _ in range(5))

    threads = [threading.Thread(target=choose, args=(job_id,)) for job_id in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20
    assert http.get(f"{URL}?is_default=true").json["pagination"]["total"] == 1


def test_exports_are_listed_by_what_they_are_of(
    http: FlaskClient, database: Database, with_file: str
) -> None:
    run = http.post("/api/v1/training", json={"name": "run", "algorithm": "cnn"}).json["id"]
    model = http.post("/api/v1/models", json=new_model(name="trained", training_job_id=run)).json["model_id"]
    http.post(f"/api/v1/models/{model}/upload", data=b"x", headers={"X-Filename": "m.pt2"})
    mine = ask(http, model, version_tag="best")
    other = ask(http, with_file)
    complete(database, other["id"])
    for path, wanted in (
        (f"/api/v1/models/{model}/exports", mine),
        ("/api/v1/models/models:/trained/latest/exports", mine),
        (f"/api/v1/training/{run}/exports", mine),
        (f"{URL}?training_job_id={run}", mine),
        (f"{URL}?version_tag=best", mine),
        (f"{URL}?trace_id={mine['trace_id']}", mine),
        (f"{URL}?status=completed", other),
        (f"{URL}?model_id=models:/digits/latest&export_format=onnx&user_id=anonymous", other),
    ):
        body = http.get(path).json
        assert [job["id"] for job in body["jobs"]] == [wanted["id"]], path
        assert body["pagination"]["total"] == 1
    assert http.get(f"{URL}?export_format=coreml").json["jobs"] == []
    for path in ("/api/v1/models/507f1f77bcf86cd799439011/exports", f"/api/v1/training/{mine['id']}/exports"):
        assert http.get(path).status_code == 404


def test_the_callback_token_is_told_once_and_kept_as_a_hash(
    http: FlaskClient, database: Database, with_file: str
) -> None:
    job = ask(http, with_file)
    stored = database.export_jobs.find_one({"_id": job["id"]})
    assert job["callback_token"] not in str(stored)
    for path in (f"{URL}/{job['id']}", URL, f"/api/v1/models/{with_file}/exports"):
        assert "callback_token" not in http.get(path).text
