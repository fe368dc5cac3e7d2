"""The teacher of a distillation: what is checked before a job exists, and what the job holds."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from model_service.actor import Actor, Permission, acting_as
from model_service.errors import InvalidField, NotFound
from model_service.storage.common.db import Database
from tests.api.finished import complete, fail, wrong_references
from tests.api.inspected import FOUND, inspect, uploaded
from tests.factories import new_model

URL = "/api/v1/export/jobs"
MODELS = "/api/v1/models"


def model(http: FlaskClient, content: bytes, **fields: Any) -> str:
    model_id = str(http.post(MODELS, json=new_model(**fields)).json["model_id"])  # type: ignore[index]
    if content:
        http.post(f"{MODELS}/{model_id}/upload", data=content, headers={"X-Filename": "m.pt2"})
    return model_id


@pytest.fixture
def student(http: FlaskClient) -> str:
    return model(http, b"a student")


@pytest.fixture
def teacher(http: FlaskClient) -> str:
    return model(http, b"a teacher", name="teachers/large")


@pytest.fixture
def dataset(http: FlaskClient, database: Database) -> str:
    dataset_id = uploaded(http)
    inspect(database, dataset_id)
    return dataset_id


def create(http: FlaskClient, student: str, teacher: str, dataset: str, **fields: Any) -> Any:
    distillation = {"teacher_model_id": teacher, "training_dataset_id": dataset, **fields}
    optimization = {"distillation": distillation}
    return http.post(
        URL, json={"model_id": student, "export_format": "onnx", "optimization_config": optimization}
    )


def refused(answer: Any, field: str = "teacher_model_id") -> str:
    """The reason of a 422 for the field."""
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field"), answer.json
    assert f"optimization_config.distillation.{field}" in str(answer.json)
    return str(answer.json["error"]["message"])


def test_a_job_holds_its_teacher_until_it_ends(
    http: FlaskClient, database: Database, student: str, teacher: str, dataset: str
) -> None:
    answer = create(http, student, teacher, dataset)
    assert answer.status_code == 202, answer.json
    distillation = answer.json["optimization_config"]["distillation"]
    assert (distillation["teacher_model_id"], distillation["alpha"]) == (teacher, 0.5)
    job: Any = database.export_jobs.find_one()
    assert (job["teacher"]["name"], job["teacher"]["version"]) == ("teachers/large", "v1.0")
    assert [data["role"] for data in job["datasets"]] == ["training"]
    assert wrong_references(database) == []
    assert http.delete(f"{MODELS}/{teacher}?purge=true").status_code == 200
    assert database.files.find_one({"_id": job["teacher"]["file_id"]})["metadata"]["references"] == 1  # type: ignore[index]
    complete(database, answer.json["id"])
    assert wrong_references(database) == []
    assert database.files.find_one({"_id": job["teacher"]["file_id"]})["metadata"]["references"] == 0  # type: ignore[index]


def test_a_cancelled_job_releases_its_teacher_and_a_retry_holds_it_again(
    http: FlaskClient, database: Database, student: str, teacher: str, dataset: str
) -> None:
    first = create(http, student, teacher, dataset).json["id"]
    assert http.post(f"{URL}/{first}/cancel").status_code == 200
    assert wrong_references(database) == []
    second = http.post(f"{URL}/{first}/retry")
    assert second.status_code == 202
    assert wrong_references(database) == []
    fail(database, second.json["id"])  # type: ignore[index]
    assert wrong_references(database) == []
    http.delete(f"{MODELS}/{teacher}?purge=true")
    http.post("/api/v1/cleanup")
    database.files.delete_many({"metadata.references": 0})
    gone = http.post(f"{URL}/{first}/retry")
    assert (gone.status_code, "teacher teachers/large/v1.0" in gone.text) == (409, True), gone.text


def test_an_export_with_another_teacher_is_another_export(
    http: FlaskClient, database: Database, student: str, teacher: str, dataset: str
) -> None:
    create(http, student, "teachers/large/v1.0", dataset)
    http.post(f"{MODELS}/{teacher}/upload?replace=true", data=b"another one", headers={"X-Filename": "m.pt2"})
    create(http, student, "teachers/large/v1.0", dataset)
    jobs: Any = list(database.export_jobs.find())
    assert jobs[0]["optimization_config"] == jobs[1]["optimization_config"]
    assert len({job["teacher"]["checksum"] for job in jobs}) == 2
    assert len({job["request_digest"] for job in jobs}) == 2


def test_a_teacher_that_cannot_teach_is_refused_before_any_work(
    http: FlaskClient, student: str, dataset: str
) -> None:
    assert "is the exported version itself" in refused(create(http, student, student, dataset))
    assert "no model" in refused(create(http, student, "f" * 24, dataset))
    assert "teachers/none" in refused(create(http, student, "teachers/none/v1.0", dataset))
    empty = model(http, b"", name="teachers/empty")
    assert "no file" in refused(create(http, student, empty, dataset))
    assert http.get(URL).json["jobs"] == []  # type: ignore[index]


@pytest.mark.parametrize("name", ["teacher", "training", "calibration"])
def test_a_request_names_no_file_of_the_worker(http: FlaskClient, student: str, name: str) -> None:
    optimization = {"quantization": {"method": "dynamic"}, name: {"path": "/etc/hostname", "format": "npz"}}
    answer = http.post(
        URL, json={"model_id": student, "export_format": "onnx", "optimization_config": optimization}
    )
    assert (answer.status_code, f"has no '{name}'" in answer.text) == (422, True), answer.text


def test_a_teacher_that_the_caller_may_not_read_is_as_one_that_does_not_exist(
    app: Flask, http: FlaskClient, student: str, teacher: str, dataset: str
) -> None:
    services = app.extensions["model_service"].services

    def attempt(reference: str) -> str:
        distillation = {"teacher_model_id": reference, "training_dataset_id": dataset}
        with pytest.raises(InvalidField) as caught:
            services.exports.create(
                model_id=student,
                training_job_id=None,
                export_format="onnx",
                export_config={},
                optimization_config={"distillation": distillation},
                validation_config=None,
                version_tag=None,
            )
        return caught.value.message.replace(reference, "ID")

    job_id = create(http, student, teacher, dataset).json["id"]
    http.post(f"{URL}/{job_id}/cancel")
    rights = frozenset({Permission.READ, Permission.WRITE})
    namespace = services.models.get(student)["namespace"]
    with acting_as(Actor("ada", in_namespaces={namespace: rights})):
        assert attempt(teacher) == attempt("f" * 24)
        with pytest.raises(NotFound):
            services.exports.retry(job_id)


def test_a_dataset_that_does_not_fit_the_training_is_refused(
    http: FlaskClient, database: Database, student: str, teacher: str
) -> None:
    boxes = uploaded(http, name="boxes", schema={"task": "detection"})
    inspect(database, boxes, task="detection")
    message = refused(create(http, student, teacher, boxes), "training_dataset_id")
    assert "is for detection" in message
    bare = uploaded(http, name="bare", task_type="classification")
    inspect(database, bare, label=None, class_counts=None)
    message = refused(create(http, student, teacher, bare), "training_dataset_id")
    assert "has no labels" in message
    assert create(http, student, teacher, bare, alpha=1).status_code == 202


def test_the_rows_of_the_training_do_not_validate(
    http: FlaskClient, student: str, teacher: str, dataset: str
) -> None:
    distillation = {"teacher_model_id": teacher, "training_dataset_id": dataset}
    body = {
        "model_id": student,
        "export_format": "onnx",
        "optimization_config": {"distillation": distillation},
        "validation_config": {"dataset_id": dataset},
    }
    answer = http.post(URL, json=body)
    assert (answer.status_code, "trained on" in answer.text) == (422, True), answer.text


def exported(http: FlaskClient, database: Database, model_id: str, columns: int, outputs: int) -> None:
    """A finished export, which says what the model takes and returns."""
    job_id = http.post(URL, json={"model_id": model_id, "export_format": "onnx"}).json["id"]  # type: ignore[index]
    complete(database, job_id)
    interface = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", columns]}],
        "outputs": [
            {"name": "label", "dtype": "int64", "shape": ["batch"]},
            {"name": "scores", "dtype": "float32", "shape": ["batch", outputs]},
        ],
    }
    database.export_jobs.update_one({"_id": job_id}, {"$set": interface})


def test_a_teacher_that_earlier_exports_describe_is_compared(
    http: FlaskClient, database: Database, student: str, teacher: str, dataset: str
) -> None:
    columns = FOUND["inputs"][0]["shape"][1]  # type: ignore[index]
    exported(http, database, student, columns, 2)
    exported(http, database, teacher, columns, 3)
    message = refused(create(http, student, teacher, dataset))
    assert "the teacher returns [rows, 3], and the exported model [rows, 2]" in message
    exported(http, database, teacher, columns, 2)
    assert create(http, student, teacher, dataset).status_code == 202
    exported(http, database, teacher, columns + 1, 2)
    assert "has the shape [3]" in refused(create(http, student, teacher, dataset))
    body = {
        "model_id": student,
        "export_format": "onnx",
        "export_config": {"preprocessing": {"tokenizer": {"max_length": 8}}},
        "optimization_config": {
            "distillation": {"teacher_model_id": teacher, "training_dataset_id": dataset}
        },
    }
    answer = http.post(URL, json=body)
    assert "has the shape" not in answer.text, "the preprocessing makes other inputs from the rows"
