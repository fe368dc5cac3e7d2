"""A conversion that runs elsewhere answers for its job with the job's ``callback_token``."""

import io
import zipfile
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.deployed import URL as DEPLOYMENTS
from tests.api.finished import claim, complete, wrong_references
from tests.api.people import People, secured

JOBS = "/api/v1/export/jobs"


def package(name: str = "model.onnx") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"bytes")  # of no time: equal bytes
    return file.getvalue()


class Job:
    """One pending job, and its callbacks."""

    def __init__(self, http: FlaskClient, model_id: str) -> None:
        http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes")
        body = {"model_id": model_id, "export_format": "onnx", "reuse": False}
        created: Any = http.post(JOBS, json=body).json
        self.id, self.token = str(created["id"]), str(created["callback_token"])
        self._http = http

    def call(self, token: str | None = None, **body: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return self._http.post(f"{JOBS}/{self.id}/callback", json=body, headers=headers)

    def send(self, content: bytes, **headers: str) -> TestResponse:
        token = {"X-Callback-Token": self.token}
        return self._http.put(f"{JOBS}/{self.id}/package", data=content, headers=token | headers)

    def read(self) -> Any:
        return self._http.get(f"{JOBS}/{self.id}").json


@pytest.fixture
def job(http: FlaskClient, model_id: str) -> Job:
    return Job(http, model_id)


def test_a_conversion_elsewhere_from_its_start_to_its_package(
    http: FlaskClient, database: Database, job: Job
) -> None:
    started = job.call(status="running", progress_percent=40, message="converting")
    assert started.status_code == 200
    assert job.call(status="running", progress_percent=60).status_code == 200
    read = job.read()
    assert (read["status"], read["progress_percent"], read["worker"]) == ("running", 60.0, "callback")
    assert read["attempts"] == 1
    early: Any = job.call(status="completed")
    assert (early.status_code, early.json["error"]["code"]) == (409, "conflict")
    for _ in range(2):  # repeated, each is answered as before
        sent: Any = job.send(package())
        assert (sent.status_code, sent.json["status"]) == (200, "completed")
        assert job.call(status="completed").json == sent.json
    assert http.get(f"{JOBS}/{job.id}/download").data == package()
    assert wrong_references(database) == []


def test_a_package_from_elsewhere_is_not_verified(http: FlaskClient, job: Job) -> None:
    job.send(package())
    assert job.read()["fidelity"]["verdict"] == "converted_not_executed"
    answer: Any = http.post(DEPLOYMENTS, json={"export_job_id": job.id, "name": "digits"})
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "not_verified")


def test_a_failure_ends_the_job_and_may_be_repeated(database: Database, job: Job) -> None:
    failure = {"status": "failed", "error_code": "conversion_failed", "error_message": "no such operator"}
    first = job.call(**failure)
    assert first.status_code == 200
    assert job.call(**failure).json == first.json
    read = job.read()
    assert (read["status"], read["error_message"]) == ("failed", "no such operator")
    assert wrong_references(database) == []


@pytest.mark.parametrize("ended_by", ["failure", "package", "worker", "cancel"])
def test_a_used_token_is_refused(http: FlaskClient, database: Database, job: Job, ended_by: str) -> None:
    match ended_by:
        case "failure":
            job.call(status="failed", error_message="one reason")
        case "package":
            job.send(package())
        case "worker":
            complete(database, job.id)
        case "cancel":
            http.post(f"{JOBS}/{job.id}/cancel")
    before = job.read()
    refused = [
        job.call(status="running"),
        job.call(status="failed", error_message="another reason"),
        job.send(package("other.onnx")),
        *([] if ended_by == "package" else [job.call(status="completed")]),
    ]
    assert [(one.status_code, one.json["error"]["code"]) for one in refused if one.json] == [
        (409, "conflict")
    ] * len(refused)
    assert job.read() == before
    assert wrong_references(database) == []


def test_a_job_that_a_worker_runs_is_left_to_it(database: Database, job: Job) -> None:
    claim(database, job.id)
    for answer in (job.call(status="running"), job.call(status="failed"), job.send(package())):
        assert answer.status_code == 409
    assert job.read()["worker"] == "w"


def test_a_worker_leaves_a_job_to_whoever_holds_it_by_its_token(database: Database, job: Job) -> None:
    job.call(status="running")
    turns = build_stores(database).export_turns
    turns.take_from_lost_workers(3, spared="w", grace_s=0)
    assert build_stores(database).exports.claim(job.id, worker="w", lease_s=60, max_attempts=3) is None
    assert turns.waiting(3) == []
    assert turns.next_in_turn(3) is None


def test_the_token_alone_is_asked_for(settings: Settings, database: Database) -> None:
    app = create_app(secured(settings))
    root = People(app).root
    model: Any = root("POST", "/api/v1/models", json={"name": "digits", "algorithm": "cnn"}).json
    root("POST", f"/api/v1/models/{model['model_id']}/upload", data=b"some bytes")
    body = {"model_id": model["model_id"], "export_format": "onnx"}
    jobs: list[Any] = [root("POST", JOBS, json=body | {"reuse": False}).json for _ in range(2)]
    http = app.test_client()
    tokens = {
        "": 401,
        "wrong": 401,
        jobs[1]["callback_token"]: 401,
        jobs[0]["callback_token"]: 200,
    }
    for path in (f"{JOBS}/{jobs[0]['id']}/callback", f"/api/v1/export/{jobs[0]['id']}/callback"):
        for token, status in tokens.items():
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = http.post(path, json={"status": "running"}, headers=headers)
            assert answer.status_code == status, answer.text
    root("POST", f"{JOBS}/{jobs[0]['id']}/callback", json={"status": "running"}, status=401)
    assert http.get(f"{JOBS}/{jobs[0]['id']}").status_code == 401


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"no zip", {}, "invalid_field"),
        (b"", {}, "length_required"),
        (package(), {"X-Content-SHA256": "0" * 64}, "incomplete_upload"),
    ],
)
def test_what_is_no_package_is_refused_and_may_be_sent_again(
    database: Database, job: Job, content: bytes, headers: dict[str, str], code: str
) -> None:
    refused: Any = job.send(content, **headers)
    assert refused.json["error"]["code"] == code
    assert job.send(package()).status_code == 200
    assert wrong_references(database) == []


@pytest.mark.parametrize("body", [{}, {"status": "done"}, {"status": "running", "progress_percent": 101}])
def test_a_malformed_callback(job: Job, body: dict[str, Any]) -> None:
    assert job.call(**body).status_code == 422
