""" "optimize": "auto" of an export job, in a real child process."""

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
from tests.factories import model_fields, scaling_program
from tests.jobs.test_on_data import new_dataset, rows


def chosen(services: Services, program: bytes, **goal: Any) -> Any:
    """The ended job of an export that is judged on a dataset."""
    model = services.models.register(model_fields())
    services.files.store(model, iter([program]), NewFile.of_holder("m", "m.pt2", None), sha256=None)
    job = services.exports.create(
        model_id=str(model["_id"]),
        training_job_id=None,
        export_format="onnx",
        export_config={"classes": ["a", "b", "c"]},
        optimization_config={"optimize": "auto", "goal": goal},
        validation_config={"dataset_id": new_dataset(services, "rows", rows())},
        version_tag=None,
    )
    export(job["_id"])
    return services.exports.get(job["_id"])


def test_a_goal_that_is_not_reached_fails_the_job_with_the_table(
    context: Context, services: Services
) -> None:
    job = chosen(services, scaling_program(), minimize="size")
    assert (job["status"], job["error_code"]) == ("failed", "goal_not_reached"), job["log"]
    assert "No recipe reaches the goal" in job["error_message"]
    assert "package" not in job
    stats = job["optimization_stats"]
    assert (stats["chosen"], stats["goal"]["minimize"]) == (None, "size")
    assert [row["recipe"] for row in stats["table"]][:3] == ["float", "float16", "dynamic"]
    assert stats["table"][0]["outcome"] == "baseline"
    assert all(row["reason"] for row in stats["table"][1:])
    assert any("Recipe 2 of 7: dynamic" in line for line in job["log"])


def test_the_best_recipe_is_delivered_with_its_table(context: Context, services: Services) -> None:
    linear = nn.Linear(3, 3, bias=False)
    linear.weight = nn.Parameter(torch.eye(3))
    network = nn.Sequential(linear, nn.Linear(3, 2000), nn.Linear(2000, 3, bias=False), nn.Softmax(1))
    with torch.no_grad():  # the last two do nothing but to be stored
        network[1].weight.zero_()
        network[1].bias.zero_()
        network[1].weight[:3] = torch.eye(3)
        network[2].weight.zero_()
        network[2].weight[:, :3] = torch.eye(3)
    program = io.BytesIO()
    exported = torch.export.export(
        network, (torch.zeros(2, 3),), dynamic_shapes=({0: Dim("batch", max=512)},)
    )
    torch.export.save(exported, program)

    job = chosen(services, program.getvalue(), minimize="size", max_accuracy_drop=0.05)

    assert job["status"] == "completed", job["error_message"]
    stats = job["optimization_stats"]
    assert stats["recipe"]["quantization"]["method"] == stats["chosen"]
    assert stats["judgement"]["drop"] <= 0.05
    file = services.exports.open_package(job["_id"])
    with zipfile.ZipFile(io.BytesIO(b"".join(file.read(0, file.size_bytes)))) as package:
        table = json.loads(package.read("optimization_table.json"))
    assert table["table"] == stats["table"]
    assert job["validation_metrics"]["passed"] is True
    assert np.isfinite(job["performance"]["peak_memory_bytes"])
