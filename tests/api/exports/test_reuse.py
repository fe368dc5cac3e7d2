"""An export that was made before is answered from what is stored, while the tools are the same."""

import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from model_service.storage.operations.workers import Workers
from tests.api.finished import TOOLS, complete, wrong_references
from tests.factories import new_model

URL = "/api/v1/export/jobs"


@pytest.fixture
def workers(database: Database) -> Workers:
    workers = Workers(database)
    workers.report("w1", {"pid": 1, "toolchain": {"digest": TOOLS, "tools": {}, "formats": {}}})
    return workers


def uploaded(http: FlaskClient, content: bytes = b"some bytes", **fields: Any) -> str:
    model_id = http.post("/api/v1/models", json=new_model(**fields)).json["model_id"]
    http.post(f"/api/v1/models/{model_id}/upload", data=content, headers={"X-Filename": "m.pt2"})
    return str(model_id)


def ask(http: FlaskClient, model_id: str, **fields: Any) -> Any:
    return http.post(URL, json={"model_id": model_id, "export_format": "onnx", **fields})


def test_the_same_export_again_is_there_at_once(
    http: FlaskClient, database: Database, workers: Workers
) -> None:
    model_id = uploaded(http)
    first = ask(http, model_id).json
    complete(database, first["id"], b"the package")
    began = time.monotonic()
    answer = ask(http, model_id, version_tag="again")
    assert time.monotonic() - began < 0.5  # the promise is 100 ms; a test's machine is busy
    assert answer.status_code == 200
    job = answer.json
    assert (job["status"], job["reused_from"], job["version"]) == ("completed", first["id"], 2)
    assert (job["version_tag"], job["progress_percent"]) == ("again", 100)
    assert job["fidelity"] == {"verdict": "verified"}
    assert http.get(f"{URL}/{job['id']}/download").data == b"the package"
    third = ask(http, model_id).json
    assert third["reused_from"] == first["id"]
    assert wrong_references(database) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"export_config": {"opset_version": 17}},
        {"export_config": {"classes": ["a", "b"]}},
        {"reuse": False},
    ],
)
def test_another_request_is_converted(
    http: FlaskClient, database: Database, workers: Workers, fields: dict[str, Any]
) -> None:
    model_id = uploaded(http)
    complete(database, ask(http, model_id).json["id"])
    answer = ask(http, model_id, **fields)
    assert (answer.status_code, answer.json["status"], answer.json["reused_from"]) == (202, "pending", None)


def test_other_bytes_or_another_model_are_converted(
    http: FlaskClient, database: Database, workers: Workers
) -> None:
    model_id = uploaded(http)
    job_id = ask(http, model_id).json["id"]
    complete(database, job_id)
    other = uploaded(http, name="other")  # the same bytes, but its name is in the package
    assert ask(http, other).status_code == 202
    replacing = f"/api/v1/models/{model_id}/upload?replace=true&confirm={job_id}"
    replaced = http.post(replacing, data=b"other bytes", headers={"X-Filename": "m.pt2"})
    assert replaced.status_code == 201, replaced.json
    assert ask(http, model_id).status_code == 202


def test_other_tools_convert_again(http: FlaskClient, database: Database, workers: Workers) -> None:
    model_id = uploaded(http)
    complete(database, ask(http, model_id).json["id"], toolchain="older tools")
    assert ask(http, model_id).status_code == 202


def test_without_a_worker_nobody_knows_the_tools_and_the_job_waits(
    http: FlaskClient, database: Database
) -> None:
    model_id = uploaded(http)
    complete(database, ask(http, model_id).json["id"])
    assert ask(http, model_id).status_code == 202
