"""optimization_config: what is checked before a job exists, and what the job holds."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from model_service.storage.common.db import Database
from tests.api.finished import wrong_references
from tests.api.inspected import inspect, uploaded

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
