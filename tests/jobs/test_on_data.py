"""Datasets, validations and evaluations with real child processes, which read what the worker sends."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model_service.errors import ModelServiceError
from model_service.jobs.context import Context
from model_service.jobs.evaluate import evaluate
from model_service.jobs.export import export
from model_service.jobs.inspect import inspect
from model_service.services import Services
from model_service.services.files.files import NewFile
from model_service.storage.common.db import Database
from tests.api.finished import wrong_references
from tests.factories import model_fields, scaling_program

CLASSES = ["a", "b", "c"]


def rows(count: int = 60) -> bytes:
    """Rows of which the scaling model finds each class, saved as ``x`` and ``y``."""
    file = io.BytesIO()
    x = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
    np.savez(file, x=x, y=x.argmax(axis=1))
    return file.getvalue()


def new_dataset(services: Services, name: str, content: bytes, format_name: str = "npz") -> str:
    """Returns a dataset that a child has inspected."""
    fields: Any = {"name": name, "version": None, "format": format_name, "schema": {}, "task_type": None}
    dataset = services.datasets.register(fields)
    services.dataset_files.store(dataset, iter([content]), NewFile.of_holder(name, "file", None), sha256=None)
    inspect(str(dataset["_id"]))
    return str(dataset["_id"])


def new_model(services: Services, factor: float = 2.0, **fields: Any) -> str:
    model = services.models.register(model_fields(**fields))
    file = NewFile.of_holder("digits", "model.pt2", None)
    services.files.store(model, iter([scaling_program(factor)]), file, sha256=None)
    return str(model["_id"])


def new_export(services: Services, model_id: str, **validation: Any) -> str:
    job = services.exports.create(
        model_id=model_id,
        training_job_id=None,
        export_format="onnx",
        export_config={"classes": CLASSES},
        optimization_config=None,
        validation_config={"enabled": True, **validation},
        version_tag=None,
    )
    return str(job["_id"])


def evaluated(services: Services, **fields: Any) -> Any:
    sent: Any = {
        "metrics": None,
        "samples": None,
        "seed": 0,
        "source_config": {},
        "export_job_id": None,
        **fields,
    }
    evaluation_id = services.evaluations.create(sent)["_id"]
    evaluate(evaluation_id)
    return services.evaluations.get(evaluation_id)


def test_a_model_and_its_export_are_measured_on_an_inspected_dataset(
    context: Context, services: Services
) -> None:
    dataset_id, model_id = new_dataset(services, "rows", rows()), new_model(services)
    summary: Any = services.datasets.get(dataset_id).get("summary")
    assert (summary["status"], summary["num_samples"]) == ("ready", 60), summary
    assert summary["inputs"] == [{"name": "x", "dtype": "float32", "shape": [60, 3]}]

    job_id = new_export(services, model_id, dataset_id=dataset_id, fail_threshold={"accuracy_drop_max": 0})
    export(job_id)
    job: Any = services.exports.get(job_id)
    assert job["status"] == "completed", job["log"]
    found = job["validation_metrics"]
    assert (found["accuracy"], found["original_accuracy"], found["accuracy_drop"]) == (1, 1, 0)
    assert found["passed"] is True
    assert 0 < job["performance"]["p50_ms"] <= job["performance"]["p99_ms"]
    assert job["performance"]["peak_memory_bytes"] > 1e6

    for subject in (
        {"model_id": model_id, "export_job_id": None},
        {"model_id": None, "export_job_id": job_id},
    ):
        done = evaluated(services, dataset_id=dataset_id, **subject)
        assert done["status"] == "completed", done["log"]
        assert done["results"]["accuracy"] == {"value": 1, "interval": [1, 1]}
        assert (done["evaluated_samples"], np.trace(done["confusion"])) == (60, 60)
        assert done["performance"]["p99_ms"] > 0


def test_a_dataset_that_cannot_be_read_has_the_reason(context: Context, services: Services) -> None:
    dataset: Any = services.datasets.get(new_dataset(services, "broken", b"no archive"))
    assert dataset["summary"]["status"] == "failed"
    assert "no zip archive" in dataset["summary"]["error"]


def test_boxes_are_a_detection(context: Context, services: Services) -> None:
    picture, file = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(picture, "PNG")
    document = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 4, 4]}],
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", picture.getvalue())
        archive.writestr("a.json", json.dumps(document))
    dataset_id, model_id = new_dataset(services, "boxes", file.getvalue(), "coco"), new_model(services)

    with pytest.raises(ModelServiceError, match="no metric of a detection"):
        new_export(services, model_id, dataset_id=dataset_id, metrics=["accuracy"])


def test_a_network_is_trained_by_its_teacher(
    context: Context, services: Services, database: Database
) -> None:
    """The student multiplies by 0.5, its teacher by 2."""
    dataset_id, student = new_dataset(services, "rows", rows(200)), new_model(services, 0.5)
    teacher = new_model(services, 2.0, name="teachers/double")
    distillation = {
        "teacher_model_id": "teachers/double/v1.0",
        "training_dataset_id": dataset_id,
        "alpha": 1,
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.05,
    }
    job_id = services.exports.create(
        model_id=student,
        training_job_id=None,
        export_format="onnx",
        export_config={"classes": CLASSES},
        optimization_config={"distillation": distillation},
        validation_config=None,
        version_tag=None,
    )["_id"]
    services.models.delete(teacher)
    export(job_id)
    job: Any = services.exports.get(job_id)
    assert job["status"] == "completed", job["log"]
    found = job["optimization_stats"]["distillation"]
    assert (found["teacher"]["name"], found["teacher"]["version"]) == ("teachers/double", "v1.0")
    assert found["teacher"]["checksum"].startswith("sha256:")
    assert found["losses"][-1] < found["losses"][0] / 100, "the student multiplies by 2 too"
    assert wrong_references(database) == []
