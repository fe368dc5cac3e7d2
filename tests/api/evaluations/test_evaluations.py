"""Evaluations over HTTP: what a request must say, lists, the end of one, and what it holds."""

from typing import Any

import pytest
from bson import ObjectId
from flask.testing import FlaskClient

from model_service.api.schemas.evaluations import Evaluation
from model_service.app import create_app
from model_service.config import Settings
from model_service.states import InspectionStatus
from model_service.storage.common.db import Database
from model_service.storage.common.documents import blobs_of
from model_service.storage.models.search import derived_fields
from model_service.storage.stores import build_stores
from tests.api.finished import complete, wrong_references
from tests.api.inspected import DATASETS, inspect, uploaded
from tests.api.people import Caller, People, secured
from tests.factories import new_model

URL = "/api/v1/evaluations"
UNKNOWN = "507f1f77bcf86cd799439011"
UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def with_file(http: FlaskClient, model_id: str) -> str:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    return model_id


@pytest.fixture
def dataset_id(http: FlaskClient, database: Database) -> str:
    dataset_id = uploaded(http)
    inspect(database, dataset_id)
    return dataset_id


def finish(database: Database, evaluation_id: str, accuracy: float = 0.75) -> None:
    """End an evaluation as a worker does."""
    stores = build_stores(database)
    job = stores.evaluations.claim(evaluation_id, worker="w", lease_s=60, max_attempts=3)
    assert job is not None
    results = {"results": {"accuracy": {"value": accuracy, "interval": [0.5, 1.0]}}, "evaluated_samples": 4}

    def work(session: Any) -> None:
        assert stores.evaluations.complete(evaluation_id, job["lease"]["token"], results, session)
        stores.evaluations.show_latest(job["model_id"], job["dataset_id"], session)
        stores.blobs.release_all(blobs_of(job), session)

    database.transaction(work)


def created(http: FlaskClient, **fields: Any) -> Any:
    answer = http.post(URL, json=fields)
    assert answer.status_code == 202, answer.json
    return answer.json


def test_a_new_evaluation_waits_and_says_what_it_will_do(
    http: FlaskClient, with_file: str, dataset_id: str
) -> None:
    fields = {"metrics": ["accuracy", "top5_accuracy"], "samples": 3, "seed": 7}
    answer = http.post(URL, json={"model_id": with_file, "dataset_id": "numbers/latest", **fields})
    assert answer.status_code == 202
    found: Any = answer.json
    assert set(found) == set(Evaluation.model_fields)
    assert (found["status"], found["model_id"], found["dataset_id"]) == ("pending", with_file, dataset_id)
    assert (found["model_name"], found["model_version"]) == ("digits", "v1.0")
    assert (found["metrics"], found["samples"], found["seed"]) == (["accuracy", "top5"], 3, 7)
    dataset = http.get(f"{DATASETS}/{dataset_id}").json
    assert found["dataset_checksum"] == dataset["file_metadata"]["checksum"]  # type: ignore[index]
    assert http.get(answer.headers["Location"]).json == found


def test_the_same_request_with_the_same_key_creates_one(
    http: FlaskClient, with_file: str, dataset_id: str
) -> None:
    body, headers = {"model_id": with_file, "dataset_id": dataset_id}, {"Idempotency-Key": "once"}
    first, second = (http.post(URL, json=body, headers=headers).json for _ in range(2))
    assert first["id"] == second["id"]  # type: ignore[index]
    assert len(http.get(URL).json["evaluations"]) == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("fields", "status", "code", "said"),
    [
        ({}, 422, "invalid_field", "exactly one of model_id and export_job_id"),
        ({"model_id": UNKNOWN, "export_job_id": UNKNOWN_JOB}, 422, "invalid_field", "exactly one"),
        ({"model_id": UNKNOWN}, 404, "not_found", "no model"),
        ({"export_job_id": UNKNOWN_JOB}, 404, "not_found", "no export job"),
        ({"export_job_id": "x"}, 400, "malformed_id", "x"),
        ({"dataset_id": UNKNOWN}, 404, "not_found", "no dataset"),
        ({"metrics": ["beauty"]}, 422, "invalid_field", "'beauty' is no metric"),
        ({"metrics": ["mse"]}, 422, "invalid_field", "no metric of a classification"),
        ({"metrics": []}, 422, "invalid_field", "metrics"),
        ({"samples": 0}, 422, "invalid_field", "samples"),
        ({"source_config": {"opset_version": 18}}, 422, "unsupported_option", "opset_version"),
        ({"source_config": {"inputs": 3}}, 422, "unsupported_option", "inputs must be an array"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(
    http: FlaskClient,
    with_file: str,
    dataset_id: str,
    fields: dict[str, Any],
    status: int,
    code: str,
    said: str,
) -> None:
    chosen = {"model_id", "export_job_id"} & fields.keys() or fields == {}
    body = {"dataset_id": dataset_id, **({} if chosen else {"model_id": with_file}), **fields}
    answer = http.post(URL, json=body)
    error = answer.json["error"]  # type: ignore[index]
    assert (answer.status_code, error["code"]) == (status, code)
    assert said in str(error)
    assert http.get(URL).json["evaluations"] == []  # type: ignore[index]


def test_a_dataset_that_cannot_be_used_is_refused(
    http: FlaskClient, database: Database, with_file: str
) -> None:
    def refusal(dataset_id: str, **fields: Any) -> tuple[int, str]:
        answer = http.post(URL, json={"model_id": with_file, "dataset_id": dataset_id, **fields})
        return answer.status_code, answer.json["error"]["message"]  # type: ignore[index]

    waiting = uploaded(http)
    assert refusal(waiting)[0] == 409
    assert "not inspected the file of dataset numbers/v1.0 yet" in refusal(waiting)[1]
    inspect(database, waiting, InspectionStatus.FAILED, error="The file is no .npz file.")
    assert refusal(waiting) == (422, "dataset_id: dataset numbers/v1.0: The file is no .npz file.")
    other = uploaded(http, format="other")
    assert refusal(other)[0] == 422
    assert "'other' cannot be loaded" in refusal(other)[1]
    empty = http.post(DATASETS, json={"name": "empty", "format": "npz"}).json
    assert "has no file yet" in refusal(empty["id"])[1]  # type: ignore[index]
    fits = uploaded(http)
    inspect(database, fits)
    inputs = [{"name": "x", "dtype": "float32", "shape": ["batch", 5]}]
    status, message = refusal(fits, source_config={"inputs": inputs})
    assert status == 422
    assert "'x' of dataset numbers/v1.2 has the shape [3]" in message
    assert "the model's input 'x' takes [5]" in message


def test_an_earlier_export_says_what_the_model_takes(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    job = http.post("/api/v1/export/jobs", json={"model_id": with_file, "export_format": "onnx"}).json
    complete(database, job["id"])  # type: ignore[index]
    inputs = [{"name": "x", "dtype": "float32", "shape": ["batch", 8, 8]}]
    database.export_jobs.update_one({}, {"$set": {"inputs": inputs}})
    for subject in ({"model_id": with_file}, {"export_job_id": job["id"]}):  # type: ignore[index]
        answer = http.post(URL, json={**subject, "dataset_id": dataset_id})
        assert answer.status_code == 422, subject
        assert "takes [8, 8]" in answer.json["error"]["message"]  # type: ignore[index]


def test_only_a_completed_export_that_runs_here_is_evaluated(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    job: Any = http.post("/api/v1/export/jobs", json={"model_id": with_file, "export_format": "onnx"}).json
    body = {"export_job_id": job["id"], "dataset_id": dataset_id}
    answer = http.post(URL, json=body)
    assert (answer.status_code, answer.json["error"]["details"]["status"]) == (409, "pending")  # type: ignore[index]
    complete(database, job["id"])
    found = created(http, **body)
    assert (found["export_job_id"], found["model_id"]) == (job["id"], with_file)
    package = http.get(f"/api/v1/export/jobs/{job['id']}").json["export_package_checksum"]  # type: ignore[index]
    assert found["source_checksum"] == package
    refused = http.post(URL, json={**body, "source_config": {"classes": ["a"]}})
    assert "source_config" in refused.json["error"]["message"]  # type: ignore[index]
    verdict = {"verdict": "converted_not_executed"}
    database.export_jobs.update_one({}, {"$set": {"fidelity": verdict}})
    assert http.post(URL, json=body).status_code == 409


def test_lists_are_filtered_and_leave_out_the_log(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    first = created(http, model_id=with_file, dataset_id=dataset_id)
    second = created(http, model_id="digits/latest", dataset_id=dataset_id)
    finish(database, first["id"])

    def ids(query: str) -> list[str]:
        return [found["id"] for found in http.get(URL + query).json["evaluations"]]  # type: ignore[index]

    assert ids("") == [second["id"], first["id"]]
    assert ids("?status=completed") == [first["id"]]
    assert ids(f"?model_id=digits/latest&dataset_id={dataset_id}&limit=1") == [second["id"]]
    assert ids("?dataset_id=numbers/v1.0&status=pending") == [second["id"]]
    assert ids(f"?export_job_id={UNKNOWN_JOB}") == []
    assert http.get(f"{URL}?dataset_id={UNKNOWN}").status_code == 404
    (listed,) = http.get(f"{URL}?status=completed").json["evaluations"]  # type: ignore[index]
    assert listed["results"] == {"accuracy": {"value": 0.75, "interval": [0.5, 1.0]}}
    assert listed["log"] == []
    assert http.get(f"{URL}/{first['id']}").json["log"] != []  # type: ignore[index]


def test_cancelled_and_deleted_evaluations_hold_nothing(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    waiting = created(http, model_id=with_file, dataset_id=dataset_id)
    ended = created(http, model_id=with_file, dataset_id=dataset_id)
    assert wrong_references(database) == []
    refused = http.delete(f"{URL}/{waiting['id']}")
    assert (refused.status_code, refused.json["error"]["details"]) == (409, {"status": "pending"})  # type: ignore[index]
    for _ in range(2):
        cancelled = http.post(f"{URL}/{waiting['id']}/cancel")
        assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")  # type: ignore[index]
    finish(database, ended["id"])
    assert http.post(f"{URL}/{ended['id']}/cancel").status_code == 409
    assert wrong_references(database) == []
    for found in (waiting, ended):
        assert http.delete(f"{URL}/{found['id']}").json["deleted_id"] == found["id"]  # type: ignore[index]
        assert http.get(f"{URL}/{found['id']}").status_code == 404
    kinds = [entry["action"] for entry in database.audit.find({"kind": "evaluation"}, sort=[("_id", 1)])]
    assert kinds == ["created", "created", "cancelled", "deleted", "deleted"]


def test_a_dataset_with_evaluations_is_not_deleted(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    found = created(http, model_id=with_file, dataset_id=dataset_id)
    refused = http.delete(f"{DATASETS}/{dataset_id}")
    assert refused.status_code == 409
    assert "evaluations" in refused.json["error"]["message"]  # type: ignore[index]
    finish(database, found["id"])
    http.delete(f"{URL}/{found['id']}")
    assert http.delete(f"{DATASETS}/{dataset_id}").status_code == 200
    assert wrong_references(database) == []


def test_a_user_has_a_limited_number_of_unfinished_evaluations(
    http: FlaskClient, with_file: str, dataset_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_service.services.evaluations.evaluations.MAX_UNDER_WAY", 1)
    body = {"model_id": with_file, "dataset_id": dataset_id}
    created(http, **body)
    assert http.post(URL, json=body).status_code == 409


def test_versions_and_their_comparison_show_the_last_evaluations(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    other: Any = http.post(f"/api/v1/models/{with_file}/versions", json={"copy_files": True}).json
    first = created(http, model_id=with_file, dataset_id=dataset_id)
    finish(database, first["id"], 0.5)
    last = created(http, model_id=with_file, dataset_id=dataset_id)
    finish(database, last["id"], 0.75)
    finish(database, created(http, model_id=other["model_id"], dataset_id=dataset_id)["id"], 0.9)

    def shown() -> Any:
        return http.get(f"/api/v1/models/{with_file}").json["evaluations"]  # type: ignore[index]

    (found,) = shown()
    assert (found["evaluation_id"], found["metrics"], found["samples"]) == (last["id"], {"accuracy": 0.75}, 4)
    assert found["dataset_name"] == "numbers"
    listed: Any = http.get("/api/v1/models?name=digits").json
    assert sorted(each["evaluations"][0]["metrics"]["accuracy"] for each in listed["models"]) == [0.75, 0.9]
    compared: Any = http.get(f"/api/v1/models/{with_file}/compare/{other['model_id']}").json
    change = compared["evaluations"]["changed"]["numbers/v1.0.accuracy"]
    assert (change["from"], change["to"]) == (0.75, 0.9)

    def searched(query: str) -> list[float]:
        models: Any = http.get(f"/api/v1/models/search?{query}").json
        return [each["evaluations"][0]["metrics"]["accuracy"] for each in models["models"]]

    metric = "evaluations.numbers/v1.0.accuracy"
    assert searched(f"min_{metric}=0.8") == [0.9]
    assert searched(f"max_metrics.{metric}=0.8") == [0.75]
    assert searched(f"sort=metrics.{metric}") == [0.75, 0.9]
    assert searched("min_evaluations.numbers/v1.1.accuracy=0") == []
    http.delete(f"{URL}/{last['id']}")
    assert shown()[0]["metrics"] == {"accuracy": 0.5}
    assert searched(f"sort=metrics.{metric}") == [0.5, 0.9]
    http.delete(f"{URL}/{first['id']}")
    assert shown() == []


def test_a_search_does_not_tell_what_a_dataset_of_another_namespace_measured(
    settings: Settings, database: Database
) -> None:
    """Bounds of a metric would find its value, though the answers do not show it."""
    people = People(create_app(secured(settings)))
    people.root("POST", "/api/v1/models", json=new_model(name="shop/cats"))
    dataset_id = people.root("POST", DATASETS, json={"name": "lab/scans", "format": "npz"}).json["id"]
    model = database.models.find_one({"name": "shop/cats"})
    assert model is not None
    shown = {"dataset_id": ObjectId(dataset_id), "dataset_name": "lab/scans", "dataset_version": "v1.0"}
    evaluation: Any = {**shown, "metrics": {"accuracy": 0.9}}
    model["evaluations"] = [evaluation]
    database.models.replace_one({"_id": model["_id"]}, {**model, **derived_fields(model)})
    _, reader = people.key(["read"], namespaces=["shop"])

    def found(caller: Caller, query: str) -> int:
        return len(caller("GET", f"/api/v1/models?{query}", status=200).json["models"])

    for query in (
        "min_evaluations.lab/scans/v1.0.accuracy=0.8",
        "sort=metrics.evaluations.lab/scans/v1.0.accuracy",
    ):
        assert (found(people.root, query), found(reader, query)) == (1, 0)
    assert found(reader, "name=shop/cats") == 1
