"""Exports that a worker validates on a dataset, in a real child process."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from model_service.jobs.context import Context
from model_service.jobs.export import export
from model_service.services import Services
from model_service.services.files.files import NewFile
from model_service.states import InspectionStatus
from model_service.storage.blobs.references import held_blobs
from tests.api.inspected import FOUND
from tests.factories import model_fields
from tests.jobs.test_evaluate import new_dataset


def near_classes() -> tuple[bytes, bytes]:
    """A network whose classes differ in a weight that float16 cannot tell apart, and its data."""
    network = nn.Linear(1, 2, bias=False)
    network.weight = nn.Parameter(torch.tensor([[1000.0], [1000.1]]))
    program = torch.export.export(network.eval(), (torch.zeros(2, 1),), dynamic_shapes=({0: Dim("batch")},))
    model, data = io.BytesIO(), io.BytesIO()
    torch.export.save(program, model)
    x = np.random.default_rng(0).uniform(-1, 1, (200, 1)).astype(np.float32)
    np.savez(data, x=x, y=(x[:, 0] > 0).astype(np.int64))
    return model.getvalue(), data.getvalue()


def validated(context: Context, services: Services, export_format: str, **config: Any) -> Any:
    """The ended job of an export that is validated with a threshold of two points."""
    content, data = near_classes()
    model = services.models.register(model_fields())
    services.files.store(model, iter([content]), NewFile.of_holder("m", "m.pt2", None), sha256=None)
    dataset_id = new_dataset(services, data)
    begun = context.stores.inspections.begin(dataset_id, 60)
    assert begun is not None
    inputs = [{"name": "x", "dtype": "float32", "shape": ["rows", 1]}]
    assert context.stores.inspections.end(begun, InspectionStatus.READY, {**FOUND, "inputs": inputs})
    job = services.exports.create(
        model_id=str(model["_id"]),
        training_job_id=None,
        export_format=export_format,
        export_config=config,
        optimization_config=None,
        validation_config={
            "dataset_id": dataset_id,
            "metrics": ["accuracy"],
            "fail_threshold": {"accuracy_drop_max": 0.02},
        },
        version_tag=None,
    )
    export(job["_id"])
    return services.exports.get(job["_id"])


def results_in(services: Services, job_id: str) -> Any:
    """validation_results.json of the job's package."""
    file = services.exports.open_package(job_id)
    with zipfile.ZipFile(io.BytesIO(b"".join(file.read(0, file.size_bytes)))) as package:
        return json.loads(package.read("validation_results.json"))


def test_an_equal_artefact_passes(context: Context, services: Services) -> None:
    job = validated(context, services, "onnx")
    assert job["status"] == "completed", job
    metrics = job["validation_metrics"]
    assert (metrics["accuracy"], metrics["original_accuracy"], metrics["accuracy_drop"]) == (1, 1, 0)
    assert (metrics["passed"], metrics["samples"]) == (True, 200)
    found = results_in(services, job["_id"])
    assert (found["passed"], found["dataset"]["name"]) == (True, "numbers")
    assert {held["count"] for held in held_blobs(context.stores.database, None)} == {1}


def test_a_worse_artefact_fails_its_job_and_is_kept(context: Context, services: Services) -> None:
    job = validated(context, services, "openvino", precision="FP16")
    assert (job["status"], job["error_code"]) == ("failed", "validation_failed"), job
    assert "fail_threshold" in job["error_message"]
    assert job["validation_metrics"]["passed"] is False
    assert job["validation_metrics"]["accuracy_drop"] > 0.3
    assert results_in(services, job["_id"])["passed"] is False
    assert {held["count"] for held in held_blobs(context.stores.database, None)} == {1}
