import pytest
from flask.testing import FlaskClient

from exporters import registry
from exporters.optimize.base import SECTIONS
from model_service.api.schemas.exports import CreatedExport
from tests.factories import new_model

URL = "/api/v1/export/jobs"
UNKNOWN = "507f1f77bcf86cd799439011"
UNKNOWN_JOB = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def with_file(http: FlaskClient, model_id: str) -> str:
    http.post(f"/api/v1/models/{model_id}/upload", data=b"some bytes", headers={"X-Filename": "m.pt2"})
    return model_id


def test_a_new_job_waits_and_says_all_there_is_to_say(http: FlaskClient, with_file: str) -> None:
    config = {"opset_version": 18, "classes": ["a", "b"], "postprocessing": {"softmax": True}}
    answer = http.post(
        URL,
        json={"model_id": with_file, "export_format": "onnx", "export_config": config, "version_tag": "best"},
    )
    assert answer.status_code == 202
    job = answer.json
    assert set(job) == set(CreatedExport.model_fields)
    assert len(job.pop("callback_token")) > 40
    assert (job["status"], job["progress_percent"], job["version"]) == ("pending", 0, 1)
    assert (job["model_id"], job["model_name"], job["version_tag"]) == (with_file, "digits", "best")
    assert job["export_config"]["opset_version"] == 18
    read = http.get(f"{URL}/{job['id']}").json
    assert read == job
    second = http.post(URL, json={"model_id": with_file, "export_format": "onnx"}).json
    assert second["version"] == 2


def test_lists_are_filtered(http: FlaskClient, with_file: str) -> None:
    job = http.post(URL, json={"model_id": with_file, "export_format": "onnx"}).json
    for query in ("", f"?model_id={with_file}", "?status=pending", "?page=1&limit=1"):
        assert [found["id"] for found in http.get(URL + query).json["jobs"]] == [job["id"]], query
    for query in (f"?model_id={UNKNOWN}", "?status=completed", "?page=2"):
        assert http.get(URL + query).json["jobs"] == [], query


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"export_format": "punch-cards"}, [spec.name for spec in registry.specifications()]),
        ({"export_config": {"opset": 17}}, sorted(registry.specification("onnx").options)),
        ({"export_config": {"postprocessing": {"softmax": 1}}}, "true or false"),
        ({"export_config": {"preprocessing": {"format": {"dtype": "int4"}}}}, "float32, float16 or uint8"),
        ({"optimization_config": {"speed": 2}}, [*SECTIONS, "optimize", "goal"]),
        (
            {"validation_config": {"threshold": 1}},
            ["enabled", "dataset_id", "metrics", "fail_threshold", "samples", "seed"],
        ),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(
    http: FlaskClient, with_file: str, fields: dict[str, object], allowed: object
) -> None:
    answer = http.post(URL, json={"model_id": with_file, "export_format": "onnx", **fields})
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "unsupported_option")
    assert answer.json["error"]["details"]["allowed"] == allowed
    assert http.get(URL).json["jobs"] == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"export_format": "onnx"}, 422, "invalid_field"),
        ({"export_format": "onnx", "model_id": UNKNOWN, "training_job_id": "x"}, 422, "invalid_field"),
        ({"export_format": "onnx", "training_job_id": "x"}, 400, "malformed_id"),
        ({"export_format": "onnx", "training_job_id": UNKNOWN_JOB}, 404, "not_found"),
        ({"export_format": "onnx", "model_id": UNKNOWN}, 404, "not_found"),
        ({"export_format": "onnx", "model_id": "x"}, 400, "malformed_id"),
        ({"model_id": UNKNOWN}, 422, "invalid_field"),
        (
            {"export_format": "onnx", "model_id": UNKNOWN, "export_config": {"classes": [1]}},
            422,
            "unsupported_option",
        ),
    ],
)
def test_sources_that_are_none(http: FlaskClient, fields: dict[str, object], status: int, code: str) -> None:
    answer = http.post(URL, json=fields)
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)


def test_a_model_without_a_file_cannot_be_exported(http: FlaskClient) -> None:
    model_id = http.post("/api/v1/models", json=new_model()).json["model_id"]
    answer = http.post(URL, json={"model_id": model_id, "export_format": "onnx"})
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "no_file")


def test_a_job_without_a_package_has_no_download(http: FlaskClient, with_file: str) -> None:
    job = http.post(URL, json={"model_id": with_file, "export_format": "onnx"}).json
    answer = http.get(f"{URL}/{job['id']}/download")
    assert (answer.status_code, answer.json["error"]["code"]) == (409, "conflict")
    assert answer.json["error"]["details"]["status"] == "pending"


def test_a_repeated_request_makes_one_job(http: FlaskClient, with_file: str) -> None:
    body = {"model_id": "models:/digits/latest", "export_format": "onnx"}
    first, second = (http.post(URL, json=body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json == first.json
    assert second.headers["Idempotency-Replayed"] == "true"
    found = http.get(f"{URL}?model_id=models:/digits/v1.0").json
    assert [job["model_id"] for job in found["jobs"]] == [with_file]
