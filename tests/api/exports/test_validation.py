"""validation_config: what is checked before a job exists, and what the job holds."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.app import create_app
from model_service.config import Settings
from model_service.storage.blobs.references import held_blobs
from model_service.storage.common.db import Database
from tests.api.finished import complete, fail, wrong_references
from tests.api.inspected import DATASETS, arrays, inspect, uploaded
from tests.api.people import People, secured

URL = "/api/v1/export/jobs"
UNKNOWN = "507f1f77bcf86cd799439011"


@pytest.fixture
def with_file(http: FlaskClient, model_id: str) -> str:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    return model_id


@pytest.fixture
def dataset_id(http: FlaskClient, database: Database) -> str:
    dataset_id = uploaded(http)
    inspect(database, dataset_id)
    return dataset_id


def test_a_job_has_the_complete_configuration_and_holds_the_data(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    config = {"dataset_id": dataset_id, "fail_threshold": {"accuracy_drop_max": 0.02}}
    answer = http.post(URL, json={"model_id": with_file, "export_format": "onnx", "validation": config})
    assert answer.status_code == 202, answer.json
    job: Any = answer.json
    assert job["validation_config"] == {
        "enabled": True,
        "dataset_id": dataset_id,
        "metrics": None,
        "fail_threshold": {"accuracy_drop_max": 0.02},
        "samples": None,
        "seed": 0,
    }
    assert wrong_references(database) == []
    data = database.datasets.find_one()["file_metadata"]["file_id"]  # type: ignore[index]
    assert {held["_id"]: held["count"] for held in held_blobs(database, None)}[data] == 2
    # The dataset can go: the job keeps its bytes
    assert http.delete(f"{DATASETS}/{dataset_id}").status_code == 200
    fail(database, job["id"])
    assert wrong_references(database) == []


def test_an_equal_export_was_validated_on_equal_data(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    """The request's digest has the data's checksum and what describes it."""

    def create(**config: Any) -> Any:
        sent = {"validation_config": {"dataset_id": dataset_id, **config}} if config else {}
        body = {"model_id": with_file, "export_format": "onnx", **sent}
        answer = http.post(URL, json=body)
        assert answer.status_code in (200, 202), answer.json
        return answer.json

    digests = set()
    for config in ({}, {"seed": 0}, {"seed": 1}):
        job = create(**config)
        digests.add(database.export_jobs.find_one({"_id": job["id"]})["request_digest"])  # type: ignore[index]
    http.patch(f"{DATASETS}/{dataset_id}", json={"schema": {"label": "y"}})
    inspect(database, dataset_id)
    job = create(seed=0)
    digests.add(database.export_jobs.find_one({"_id": job["id"]})["request_digest"])  # type: ignore[index]
    assert len(digests) == 4
    again = create(seed=0)
    assert database.export_jobs.find_one({"_id": again["id"]})["request_digest"] in digests  # type: ignore[index]


def test_a_retry_has_the_same_data(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    config = {"dataset_id": dataset_id}
    body = {"model_id": with_file, "export_format": "onnx", "validation_config": config}
    first: Any = http.post(URL, json=body).json
    fail(database, first["id"])
    second: Any = http.post(f"{URL}/{first['id']}/retry").json
    stored = {job["_id"]: job for job in database.export_jobs.find()}
    assert stored[first["id"]]["datasets"] == stored[second["id"]]["datasets"]  # type: ignore[typeddict-item]
    assert wrong_references(database) == []
    complete(database, second["id"])
    assert wrong_references(database) == []


def test_a_file_of_a_dataset_that_is_gone_is_named_as_such(
    http: FlaskClient, database: Database, with_file: str, dataset_id: str
) -> None:
    body = {"model_id": with_file, "export_format": "onnx", "validation_config": {"dataset_id": dataset_id}}
    job: Any = http.post(URL, json=body).json
    fail(database, job["id"])
    database.files.delete_one({"_id": database.datasets.find_one()["file_metadata"]["file_id"]})  # type: ignore[index]
    for answer in (http.post(URL, json=body), http.post(f"{URL}/{job['id']}/retry")):
        error = answer.json["error"]  # type: ignore[index]
        assert (answer.status_code, error["details"]["dataset_id"]) == (409, dataset_id)
        assert "The file of dataset numbers/v1.0 was replaced or removed" in error["message"]


def test_a_retry_needs_permission_to_read_the_datasets(settings: Settings, database: Database) -> None:
    people = People(create_app(secured(settings)))
    model = {"name": "vision/m", "algorithm": "cnn"}
    model_id = people.root("POST", "/api/v1/models", json=model, status=201).json["model_id"]  # type: ignore[index]
    named = {"X-Filename": "m.pt2"}
    people.root("POST", f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers=named, status=201)
    data = {"name": "secret/numbers", "format": "npz"}
    dataset_id = people.root("POST", DATASETS, json=data, status=201).json["id"]  # type: ignore[index]
    named = {"X-Filename": "d.npz"}
    people.root("POST", f"{DATASETS}/{dataset_id}/upload", data=arrays(), headers=named, status=201)
    inspect(database, dataset_id)
    both = people.user("both", namespaces={"vision": ["writer"], "secret": ["reader"]})
    other = people.user("other", namespaces={"vision": ["writer"]})
    body = {"model_id": model_id, "export_format": "onnx", "validation_config": {"dataset_id": dataset_id}}
    job: Any = both("POST", URL, json=body, status=202).json
    fail(database, job["id"])
    refused: Any = other("POST", f"{URL}/{job['id']}/retry", status=404).json
    assert (refused["error"]["details"]["kind"], refused["error"]["details"]["id"]) == ("dataset", dataset_id)
    assert database.export_jobs.count_documents({}) == 1
    both("POST", f"{URL}/{job['id']}/retry", status=202)


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({}, "invalid_field", "validation_config.dataset_id: the id of a dataset"),
        ({"dataset_id": 3}, "invalid_field", "validation_config.dataset_id"),
        ({"dataset_id": UNKNOWN}, "invalid_field", f"There is no dataset '{UNKNOWN}'"),
        ({"enabled": True, "dataset": "x"}, "unsupported_option", "validation_config has no 'dataset'"),
        ({"metrics": ["mse"]}, "invalid_field", "no metric of a classification"),
        ({"metrics": "accuracy"}, "invalid_field", "validation_config.metrics: a list of metrics"),
        ({"metrics": [{}]}, "invalid_field", "validation_config.metrics: a list of metrics"),
        ({"fail_threshold": {"mse_drop_max": 1}}, "invalid_field", "has no 'mse_drop_max' here"),
        ({"fail_threshold": {"accuracy_drop_max": -1}}, "invalid_field", "must be a number from 0"),
        ({"fail_threshold": 3}, "invalid_field", "must be an object"),
        (
            {"metrics": ["f1"], "fail_threshold": {"accuracy_drop_max": 0.1}},
            "invalid_field",
            "Use f1_drop_max",
        ),
        ({"samples": 0}, "invalid_field", "validation_config.samples: an integer from 1"),
        ({"samples": True}, "invalid_field", "validation_config.samples"),
        ({"seed": "x"}, "invalid_field", "validation_config.seed"),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_work(
    http: FlaskClient, with_file: str, dataset_id: str, config: dict[str, Any], code: str, said: str
) -> None:
    incomplete = {"dataset_id", "dataset", "enabled"} & config.keys() or config == {}
    sent = {"enabled": True, **config} if incomplete else {"dataset_id": dataset_id, **config}
    answer = http.post(URL, json={"model_id": with_file, "export_format": "onnx", "validation_config": sent})
    error = answer.json["error"]  # type: ignore[index]
    assert (answer.status_code, error["code"]) == (422, code)
    assert said in error["message"]
    assert http.get(URL).json["jobs"] == []  # type: ignore[index]


@pytest.mark.parametrize("export_format", ["coreml", "tensorrt"])
def test_a_threshold_for_a_format_that_the_workers_cannot_run_is_refused(
    http: FlaskClient, with_file: str, dataset_id: str, export_format: str
) -> None:
    config: dict[str, Any] = {"dataset_id": dataset_id}
    body = {"model_id": with_file, "export_format": export_format, "validation_config": config}
    assert http.post(URL, json=body).status_code == 202
    config["fail_threshold"] = {"accuracy_drop_max": 0.02}
    answer = http.post(URL, json=body)
    assert answer.status_code == 422
    assert f"can run {export_format}" in answer.json["error"]["message"]  # type: ignore[index]


def test_a_dataset_that_does_not_fit_the_declared_inputs_is_refused(
    http: FlaskClient, with_file: str, dataset_id: str
) -> None:
    def status(shape: list[Any], **config: Any) -> int:
        inputs = [{"name": "x", "shape": shape, "dtype": "float32"}]
        options = {"inputs": inputs, **config}
        body = {"model_id": with_file, "export_format": "onnx", "export_config": options}
        return http.post(URL, json={**body, "validation_config": {"dataset_id": dataset_id}}).status_code

    assert status(["batch", 3]) == 202
    assert status(["batch", "features"]) == 202
    assert status(["batch", 4]) == 422
    assert status(["batch", 3, 3]) == 422
    preprocessing = {"format": {"dtype": "float32"}}
    assert status(["batch", 3, 8, 8], preprocessing=preprocessing) == 202


def test_a_dataset_that_no_worker_has_inspected_is_a_conflict(http: FlaskClient, with_file: str) -> None:
    config = {"dataset_id": uploaded(http)}
    answer = http.post(URL, json={"model_id": with_file, "export_format": "onnx", "validation": config})
    assert (answer.status_code, answer.json["error"]["details"]["status"]) == (409, "pending")  # type: ignore[index]
