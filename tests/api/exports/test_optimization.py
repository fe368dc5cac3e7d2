"""optimization_config: what is checked before a job exists, and what the job holds."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.api.finished import wrong_references
from tests.api.inspected import arrays, inspect, uploaded

URL = "/api/v1/export/jobs"


@pytest.fixture
def with_file(http: FlaskClient, model_id: str) -> str:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    return model_id


def create(
    http: FlaskClient, model_id: str, quantization: dict[str, Any], export_format: str = "onnx"
) -> Any:
    body = {"model_id": model_id, "export_format": export_format}
    return http.post(URL, json={**body, "optimization_config": {"quantization": quantization}})


def test_a_job_holds_the_calibration_data(http: FlaskClient, database: Database, with_file: str) -> None:
    dataset_id = uploaded(http)
    quantization = {"method": "static", "calibration_dataset_id": dataset_id}
    assert create(http, with_file, quantization).status_code == 409  # no worker has inspected the file
    inspect(database, dataset_id)
    answer = create(http, with_file, quantization)
    assert answer.status_code == 202, answer.json
    stored: Any = database.export_jobs.find_one()
    assert [data["role"] for data in stored["datasets"]] == ["calibration"]
    complete = answer.json["optimization_config"]["quantization"]
    assert (complete["method"], complete["calibration_dataset_id"]) == ("static", dataset_id)
    assert wrong_references(database) == []


def test_a_dynamic_quantization_needs_no_data(http: FlaskClient, database: Database, with_file: str) -> None:
    answer = create(http, with_file, {"method": "dynamic"})
    assert answer.status_code == 202, answer.json
    assert "datasets" not in database.export_jobs.find_one()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("quantization", "code", "said"),
    [
        ({"method": "static"}, "unsupported_option", "calibration_dataset_id"),
        (
            {"method": "static", "calibration_dataset_id": "f" * 24},
            "invalid_field",
            "optimization_config.quantization.calibration_dataset_id: There is no dataset",
        ),
        ({"method": "magic"}, "unsupported_option", "dynamic"),
    ],
)
def test_a_wrong_configuration_is_refused_before_any_work(
    http: FlaskClient, with_file: str, quantization: dict[str, Any], code: str, said: str
) -> None:
    answer = create(http, with_file, quantization)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, code)
    assert said in str(answer.json)
    assert http.get(URL).json["jobs"] == []  # type: ignore[index]


def test_a_format_that_needs_calibration_data_is_refused_without(http: FlaskClient, with_file: str) -> None:
    body = {
        "model_id": with_file,
        "export_format": "tflite",
        "export_config": {"quantization": "full_integer"},
    }
    assert http.post(URL, json=body).status_code == 422


AUTO: dict[str, Any] = {"optimize": "auto", "goal": {"minimize": "size"}}


def optimize(
    http: FlaskClient, model_id: str, validation: dict[str, Any] | None = None, **config: Any
) -> Any:
    body = {"model_id": model_id, "export_format": "onnx", "validation_config": validation}
    return http.post(URL, json={**body, "optimization": {**AUTO, **config}})


def inspected(http: FlaskClient, database: Database, name: str, rows: int) -> str:
    dataset_id = uploaded(http, arrays(rows), name=name)
    inspect(database, dataset_id)
    return dataset_id


def test_auto_holds_the_datasets_of_its_recipes(
    http: FlaskClient, database: Database, with_file: str
) -> None:
    judges = inspected(http, database, "judges", 4)
    given = {
        "calibration_dataset_id": inspected(http, database, "ranges", 6),
        "training_dataset_id": inspected(http, database, "lessons", 8),
    }
    answer = optimize(http, with_file, {"dataset_id": judges}, **given)
    assert answer.status_code == 202, answer.json
    goal = {"max_accuracy_drop": 0.01, "minimize": "size", "on": None}
    assert answer.json["optimization_config"] == {"optimize": "auto", "goal": goal, **given}
    stored: Any = database.export_jobs.find_one()
    assert [data["role"] for data in stored["datasets"]] == ["validation", "calibration", "training"]
    assert wrong_references(database) == []


def test_auto_runs_on_the_hardware_of_a_running_worker(
    http: FlaskClient, database: Database, with_file: str
) -> None:
    judges = {"dataset_id": inspected(http, database, "judges", 4)}
    goal = {"minimize": "size", "on": "an abacus, 10 cores"}
    refused = optimize(http, with_file, judges, goal=goal)
    assert refused.status_code == 422
    assert "none is running" in refused.json["error"]["message"]
    toolchain = {"digest": "d", "tools": {}, "formats": {}, "hardware": "an abacus, 10 cores"}
    build_stores(database).workers.report("one", {"toolchain": toolchain})
    answer = optimize(http, with_file, judges, goal=goal)
    assert answer.status_code == 202, answer.json
    assert answer.json["progress_message"] == "waiting for a worker on an abacus, 10 cores"
    assert database.export_jobs.find_one()["hardware"] == "an abacus, 10 cores"  # type: ignore[index]
    http.post(f"{URL}/{answer.json['id']}/cancel")
    database.workers.delete_many({})
    again = http.post(f"{URL}/{answer.json['id']}/retry")
    assert (again.status_code, again.json["error"]["code"]) == (422, "invalid_field")  # type: ignore[index]
    build_stores(database).workers.report("one", {"toolchain": toolchain})
    assert http.post(f"{URL}/{answer.json['id']}/retry").status_code == 202
    refused = optimize(http, with_file, judges, goal={**goal, "on": "a slide rule"})
    assert refused.json["error"]["details"]["fields"][0]["field"] == "optimization_config.goal.on"
    assert "'an abacus, 10 cores'" in refused.json["error"]["message"]


def test_auto_needs_rows_that_judge_and_nothing_else(
    http: FlaskClient, database: Database, with_file: str
) -> None:
    judges = inspected(http, database, "judges", 4)
    for validation in (None, {"enabled": False, "dataset_id": judges}):
        answer = optimize(http, with_file, validation)
        assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
        assert answer.json["error"]["details"]["fields"][0]["field"] == "validation_config.dataset_id"
    answer = optimize(http, with_file, {"dataset_id": judges}, calibration_dataset_id=judges)
    assert answer.status_code == 422
    field = answer.json["error"]["details"]["fields"][0]["field"]
    assert field == "optimization_config.calibration_dataset_id"
    assert http.get(URL).json["jobs"] == []  # type: ignore[index]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"goal": {"max_accuracy_drop": -1}}, "max_accuracy_drop must be a number from 0.0 to 1.0"),
        ({"goal": {"minimize": "price"}}, "minimize must be one of latency, size, memory"),
        ({"goal": "small"}, "optimization_config.goal must be an object"),
        ({"optimize": "quantize_int8"}, "optimize must be"),
        ({"quantization": {"method": "dynamic"}}, "remove quantization"),
        ({"epochs": 3}, "has no 'epochs'"),
    ],
)
def test_a_wrong_goal_is_refused_before_any_work(
    http: FlaskClient, with_file: str, config: dict[str, Any], said: str
) -> None:
    answer = optimize(http, with_file, {"dataset_id": "numbers/v1.0"}, **config)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "unsupported_option")
    assert said in answer.json["error"]["message"]
