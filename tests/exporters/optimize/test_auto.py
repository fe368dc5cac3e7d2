""" "optimize": "auto" with real exports: the table, the choice, and what happens to a recipe that fails."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exporters import convert, hardware, optimize, runners
from exporters.convert import run
from exporters.datasets import DatasetFile
from exporters.errors import GoalNotReached, UnsupportedOption
from exporters.optimize import onnx_dynamic, onnx_float16
from exporters.optimize.base import Step
from exporters.proof import golden, measure
from exporters.request import ExportRequest, Validation

from .conftest import Trained

SIZE = {"minimize": "size"}


def request(net: Trained, folder: Path, format_name: str = "onnx", **fields: Any) -> ExportRequest:
    """An export that is calibrated and validated on different rows, unless ``fields`` say otherwise."""
    goal = fields.pop("goal", SIZE)
    data = fields.pop("data", {"calibration": {"path": str(net.calibration), "format": "npz"}})
    validation = Validation(DatasetFile(net.test, "npz"))
    optimization = {"optimize": "auto", "goal": goal, **data}
    return ExportRequest(
        net.path,
        folder / "out",
        format_name,
        **{"optimization": optimization, "validation": validation, **fields},
    )


@pytest.fixture(scope="session")
def wide(digits: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A network of a million parameters, trained for a second."""
    net = layers(13_500)
    assert sum(parameter.numel() for parameter in net.parameters()) >= 1_000_000
    train(net, digits, 12, 1e-3)
    return saved(net, digits, tmp_path_factory.mktemp("wide") / "wide.pt2")


@pytest.fixture
def outlier(digits: Trained, tmp_path: Path) -> Trained:
    """A network with one hidden number so large that one scale is too coarse for the others."""
    net = layers(64)
    train(net, digits, 100, 1e-2)
    with torch.no_grad(), np.load(digits.calibration) as archive:
        one = net[:3](torch.from_numpy(archive["x"])).mean(0).argmax()
        net[1].weight[one] *= 1e5
        net[1].bias[one] *= 1e5
        net[3].weight[:, one] /= 1e5
    return saved(net, digits, tmp_path / "outlier.pt2")


def layers(width: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))


def train(net: nn.Module, data: Trained, steps: int, rate: float) -> None:
    with np.load(data.calibration) as archive:
        x, y = torch.from_numpy(archive["x"]), torch.from_numpy(archive["y"])
    optimizer = torch.optim.Adam(net.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


def saved(net: nn.Module, data: Trained, path: Path) -> Trained:
    dynamic = ({0: torch.export.Dim("batch", max=1024)},)
    program = torch.export.export(net.eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
    torch.export.save(program, path)
    return replace(data, path=path)


def by_recipe(table: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["recipe"]: row for row in table}


def test_a_network_of_a_million_parameters_gets_three_times_smaller(wide: Trained, tmp_path: Path) -> None:
    stages = []
    result = run(request(wide, tmp_path), lambda step, percent, message: stages.append((step, message)))

    found = result.optimization
    rows = by_recipe(found["table"])
    assert found["goal"] == {"max_accuracy_drop": 0.01, "minimize": "size", "on": None}
    assert found["chosen"] == "dynamic"  # static is not smaller by more than a tenth
    assert found["recipe"]["quantization"]["method"] == "dynamic"
    assert rows["float"]["size_bytes"] > 3 * result.artefact_size_bytes
    assert rows["dynamic"]["size_bytes"] == result.artefact_size_bytes
    assert rows["dynamic"]["drop"] <= 0.01
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "float": "baseline",
        "float16": "dropped",
        "dynamic": "chosen",
        "static": "dropped",
        "static, entropy": "not_tried",
        "static, percentile": "not_tried",
        "static, keep_float auto": "not_tried",
        "qat": "not_tried",
    }
    for row in found["table"][:4]:
        low, high = row["interval"]
        assert low <= row["drop"] <= high
        assert (row["metric"], row["samples"]) == ("accuracy", 719)
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["peak_memory_bytes"] > 1e7
    assert [message for step, message in stages if step == "recipe"][1] == "Recipe 2 of 7: dynamic"

    table = json.loads((result.package_dir / "optimization_table.json").read_bytes())
    assert table == {name: found[name] for name in ("goal", "hardware", "chosen", "table")}
    assert result.validation is not None
    assert result.validation["accuracy_drop"] == pytest.approx(rows["dynamic"]["drop"])
    assert golden.replay(result.package_dir, runners.load(result.package_dir)) == []

    again = run(request(wide, tmp_path / "again"))
    assert again.optimization["chosen"] == "dynamic"
    assert (again.package_dir / "model.onnx").read_bytes() == (result.package_dir / "model.onnx").read_bytes()


def test_recipes_that_lose_too_much_are_repaired(outlier: Trained, tmp_path: Path) -> None:
    """Up to the training, which starts from the network and not from the float artefact."""
    data = {"path": str(outlier.calibration), "format": "npz"}
    result = run(request(outlier, tmp_path, data={"calibration": data, "training": data}))

    rows = by_recipe(result.optimization["table"])
    for name in ("static", "static, entropy", "static, percentile"):
        assert rows[name]["reason"].startswith("accuracy drops by 0."), rows[name]
    assert "Static quantization loses" in rows["static, keep_float auto"]["reason"]
    assert rows["qat"]["original"] == rows["float"]["original"]
    assert rows["qat"]["size_bytes"] < rows["float"]["size_bytes"]
    chosen = rows[result.optimization["chosen"]]
    assert chosen["size_bytes"] == result.artefact_size_bytes
    assert golden.replay(result.package_dir, runners.load(result.package_dir)) == []


def test_openvino_without_calibration_data(wide: Trained, tmp_path: Path) -> None:
    result = run(request(wide, tmp_path, "openvino", data={}))

    rows = by_recipe(result.optimization["table"])
    assert result.optimization["chosen"] == "dynamic"
    assert result.options["precision"] == "INT8"
    assert rows["float"]["size_bytes"] > 3 * result.artefact_size_bytes
    assert rows["static"]["outcome"] == "not_tried"
    assert "give calibration_dataset_id" in rows["static"]["reason"]


def failing(export: ExportRequest) -> tuple[str, dict[str, dict[str, Any]]]:
    with pytest.raises(GoalNotReached) as caught:
        run(export)
    assert not export.output_dir.exists()
    found = caught.value.details["optimization"]
    assert found["chosen"] is None
    return caught.value.message, by_recipe(found["table"])


def test_a_goal_that_nothing_reaches_ends_with_the_table(digits: Trained, tmp_path: Path) -> None:
    """A network without weights."""

    class Scale(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2).flatten(1)[:, :10]

    message, rows = failing(request(saved(Scale(), digits, tmp_path / "scale.pt2"), tmp_path))

    assert "size below 0.9 times the float artefact's" in message
    assert rows["float"]["outcome"] == "baseline"
    assert rows["static"]["outcome"] == "failed"
    assert "nothing to quantize" in rows["static"]["reason"]
    assert rows["qat"]["outcome"] == "not_tried"
    assert "needs training data" in rows["qat"]["reason"]


def test_a_recipe_that_crashes_is_a_row(
    digits: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(step: Step) -> Any:
        raise RuntimeError("the tool is broken")

    def endless(step: Step) -> Any:
        """An artefact that the runtime loads, and that runs out of memory."""
        shape = onnx.helper.make_node("ConstantOfShape", ["n"], ["z"])
        size = onnx.helper.make_tensor("n", onnx.TensorProto.INT64, [1], [1 << 60])
        ends = [onnx.helper.make_tensor_value_info(name, 1, ["n"]) for name in ("x", "z")]
        graph = onnx.helper.make_graph([shape], "g", ends[:1], ends[1:], [size])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, step.folder / "model.onnx")
        return step.result(("model.onnx",), "int8"), {}

    monkeypatch.setattr(onnx_float16, "apply", crash)
    monkeypatch.setattr(onnx_dynamic, "apply", endless)

    _, rows = failing(request(digits, tmp_path, data={}))

    assert rows["float16"]["outcome"] == rows["dynamic"]["outcome"] == "failed"
    assert rows["float16"]["reason"].endswith("RuntimeError: the tool is broken")
    assert "in a process of its own" in rows["dynamic"]["reason"]


def with_dataset(path: Path) -> dict[str, Any]:
    return {"calibration": {"path": str(path), "format": "npz"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: {"validation": None}, "add validation"),
        (lambda net: {"data": with_dataset(net.test)}, "rows that judge a recipe must not"),
        (lambda net: {"goal": {"on": "an abacus"}}, "this machine is"),
        (lambda net: {"goal": {"minimize": "price"}}, "one of latency, size, memory"),
    ],
)
def test_a_request_that_cannot_be_judged_is_rejected(
    change: Callable[[Trained], dict[str, Any]], message: str, digits: Trained, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOption, match=message):
        convert.check(request(digits, tmp_path, **change(digits)))
    assert convert.check(request(digits, tmp_path, goal={"on": hardware.label()}))


def test_a_checked_configuration_is_complete() -> None:
    complete = optimize.check("onnx", {"optimize": "auto"})
    assert complete["goal"] == {"max_accuracy_drop": 0.01, "minimize": "latency", "on": None}
    assert optimize.check("onnx", complete) == complete
    named = {"optimize": "auto", "calibration_dataset_id": "a", "training_dataset_id": "b"}
    assert optimize.datasets_of(optimize.check("onnx", named)) == {
        "calibration": ("optimization_config.calibration_dataset_id", "a"),
        "training": ("optimization_config.training_dataset_id", "b"),
    }


def test_models_are_measured_in_turns() -> None:
    called: list[str] = []

    def model(name: str) -> measure.Predict:
        def predict(inputs: Any) -> Any:
            called.append(name)
            return inputs

        return predict

    first, second = measure.in_turns([model("a"), model("b")], {"x": np.zeros((1, 3), np.float32)})
    assert first.calls == second.calls
    turns = "".join(called).replace("b" + "a", "b a").replace("ab", "a b").split()
    assert len(turns) > 2
    assert [turn[0] for turn in turns] == ["a", "b"] * (len(turns) // 2)
    assert len(called) == first.calls + second.calls + len(turns), "the first call of a turn is not measured"
    assert 0 <= first.p50_ms <= first.p99_ms
