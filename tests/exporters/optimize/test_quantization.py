"""Quantized artefacts are smaller and as accurate as the network, on rows that calibration did not see."""

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

from exporters import runners
from exporters.convert import run
from exporters.errors import InvalidDataset, OptimizationFailed, VerificationFailed
from exporters.proof import golden
from exporters.request import ExportResult

from ..reproducible import contents
from .conftest import Trained

STATIC = {"method": "static"}
LARGEST_DROP = 0.01


@pytest.fixture(scope="session")
def optimized(digits: Trained, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ExportResult]:
    """The export with a quantization, made once."""
    done: dict[str, ExportResult] = {}
    folder = tmp_path_factory.mktemp("optimized")

    def get(format_name: str, config: dict[str, Any] | None = None, **options: Any) -> ExportResult:
        key = json.dumps([format_name, config, options])
        if key not in done:
            given = {"quantization": config} if config else {}
            request = digits.request(folder / str(len(done)), format_name, options=options, **given)
            done[key] = run(request)
        return done[key]

    return get


def accuracy(folder: Path, digits: Trained) -> float:
    runner = runners.load(folder)
    name = runner.inputs[0].name
    rows = runner.inputs[0].shape[0]
    size = rows if isinstance(rows, int) else 64
    x, y = digits.arrays()
    scores = [
        next(iter(runner.predict({name: part}).values())) for part in np.split(x, range(size, len(x), size))
    ]
    return float((np.concatenate(scores).argmax(1) == y).mean())


@pytest.mark.parametrize(
    ("format_name", "quantization", "options", "largest_share"),
    [
        ("onnx", STATIC, {}, 0.35),
        ("onnx", {**STATIC, "calibration_method": "entropy"}, {}, 0.35),
        ("onnx", {**STATIC, "calibration_method": "percentile", "dtype": "quint8"}, {}, 0.35),
        ("onnx", {"method": "dynamic"}, {}, 0.5),
        ("onnx", {"method": "float16"}, {}, 0.55),
        ("openvino", STATIC, {}, 0.45),
        ("openvino", {"method": "dynamic"}, {}, 0.45),
        ("openvino", {"method": "float16"}, {}, 0.6),
        ("tflite", STATIC, {}, 0.35),
        ("tflite", STATIC, {"quantization": "full_integer"}, 0.35),
        ("tflite", {"method": "dynamic"}, {}, 0.4),
    ],
    ids=str,
)
def test_it_is_smaller_and_as_accurate(
    format_name: str,
    quantization: dict[str, Any],
    options: dict[str, Any],
    largest_share: float,
    digits: Trained,
    optimized: Callable[..., ExportResult],
) -> None:
    before, after = optimized(format_name), optimized(format_name, quantization, **options)

    assert after.verdict == "verified"
    assert after.artefact_size_bytes < largest_share * before.artefact_size_bytes
    drop = accuracy(before.package_dir, digits) - accuracy(after.package_dir, digits)
    assert drop <= LARGEST_DROP
    assert golden.replay(after.package_dir, runners.load(after.package_dir)) == []
    stats = after.optimization
    assert stats["exported_size_mb"] == round(after.artefact_size_bytes / 1e6, 3)
    assert stats["original_size_mb"] == round(digits.path.stat().st_size / 1e6, 3)
    assert stats["compression_ratio"] == round(digits.path.stat().st_size / after.artefact_size_bytes, 3)
    assert stats["recipe"]["quantization"]["method"] == quantization["method"]


def test_static_quantization_is_judged_on_the_rows_of_the_dataset(
    optimized: Callable[..., ExportResult],
) -> None:
    result = optimized("onnx", STATIC)

    judged = result.fidelity["optimization"]
    assert (judged["metric"], judged["samples"], judged["passed"]) == ("accuracy", 1078, True)
    assert judged["interval"][0] <= judged["drop"] <= judged["interval"][1]
    assert result.fidelity["compared"] == "the artefact before its quantization"
    assert json.loads((result.package_dir / "fidelity.json").read_bytes()) == result.fidelity
    layers = result.optimization["layers"]
    assert len(layers["quantized"]) == 4
    assert layers["float"] == []
    model = onnx.load(str(result.package_dir / "model.onnx"))
    scales = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert sum(len(tensor.dims) > 1 for tensor in weights) == 4
    assert any(len(tensor.dims) == 1 and tensor.dims[0] == 32 for tensor in scales.values())  # per channel


def test_dynamic_quantization_names_the_layers_that_stay_in_float(
    optimized: Callable[..., ExportResult],
) -> None:
    layers = optimized("onnx", {"method": "dynamic"}).optimization["layers"]
    assert [len(layers["quantized"]), len(layers["float"])] == [2, 2]
    assert all("Conv" in name for name in layers["float"])


class Recurrent(nn.Module):
    """The rows of an image in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.rows(x[:, 0])[0][:, -1])
        return out


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_recurrent_layers_are_named_as_layers_in_float(method: str, digits: Trained, tmp_path: Path) -> None:
    torch.manual_seed(0)
    dynamic = ({0: torch.export.Dim("batch", max=1024)},)
    program = torch.export.export(Recurrent().eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
    torch.export.save(program, tmp_path / "gru.pt2")
    request = replace(digits, path=tmp_path / "gru.pt2").request(
        tmp_path / "out", quantization={"method": method}
    )
    layers = run(request).optimization["layers"]
    assert len(layers["quantized"]) == 1
    assert [name for name in layers["float"] if "gru" in name] == layers["float"] != []


def test_named_layers_stay_in_float(
    digits: Trained, optimized: Callable[..., ExportResult], tmp_path: Path
) -> None:
    first = optimized("onnx", STATIC).optimization["layers"]["quantized"][0]
    kept = {**STATIC, "keep_float": [first]}

    assert optimized("onnx", kept).optimization["layers"]["float"] == [first]
    with pytest.raises(
        OptimizationFailed, match=f"keep_float names 'head', but the model's layers are {first}"
    ):
        run(digits.request(tmp_path / "out", quantization={**STATIC, "keep_float": ["head"]}))


def test_equal_requests_give_equal_bytes(
    digits: Trained, optimized: Callable[..., ExportResult], tmp_path: Path
) -> None:
    again = run(digits.request(tmp_path / "again", quantization=STATIC))
    assert contents(again.package_dir) == contents(optimized("onnx", STATIC).package_dir)


@pytest.fixture(scope="session")
def outliers(digits: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The same function with one channel of large activations: the scale is too coarse for the others."""
    module = torch.export.load(digits.path).module(check_guards=False)
    weights = dict(module.named_parameters())
    with torch.no_grad():
        for name in ("1.weight", "1.bias"):
            weights[name][0] *= 30_000
        weights["4.weight"][:, 0] /= 30_000

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x)

    path = tmp_path_factory.mktemp("outliers") / "outliers.pt2"
    dynamic = ({0: torch.export.Dim("batch", max=1024)},)
    torch.export.save(torch.export.export(Plain(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic), path)
    return replace(digits, path=path)


def test_a_quantization_that_loses_accuracy_is_rejected(outliers: Trained, tmp_path: Path) -> None:
    with pytest.raises(VerificationFailed, match=r"accuracy drops by 0\.\d+ \(.*keep_float to auto"):
        run(outliers.request(tmp_path / "out", quantization=STATIC))


@pytest.mark.parametrize("format_name", ["onnx", "openvino"])
def test_the_layers_that_lose_the_accuracy_are_found(
    format_name: str, digits: Trained, outliers: Trained, tmp_path: Path
) -> None:
    result = run(
        outliers.request(tmp_path / "out", format_name, quantization={**STATIC, "keep_float": "auto"})
    )

    layers = result.optimization["layers"]
    assert layers["float"]
    assert layers["quantized"]
    assert result.fidelity["optimization"]["passed"]
    assert accuracy(result.package_dir, digits) > 0.94


@pytest.mark.parametrize(
    ("quantization", "largest_share"),
    [({"method": "dynamic"}, 0.65), ({"method": "palettization"}, 0.5)],
    ids=str,
)
def test_core_ml_weights_are_compressed(
    quantization: dict[str, Any], largest_share: float, optimized: Callable[..., ExportResult]
) -> None:
    before = optimized("coreml", minimum_deployment_target="iOS16")
    after = optimized("coreml", quantization, minimum_deployment_target="iOS16")

    assert after.verdict == "converted_not_executed"
    size = {one: after.optimization[one]["size_bytes"] for one in ("float", "optimized")}
    weights = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    sizes = [(result.package_dir / weights).stat().st_size for result in (before, after)]
    assert sizes[1] < largest_share * sizes[0]
    assert size["optimized"] < size["float"]
    assert after.optimization["judgement"]["judged_on"] is None


def test_a_dataset_that_does_not_fit_ends_the_export(digits: Trained, tmp_path: Path) -> None:
    np.savez(tmp_path / "wrong.npz", x=np.zeros((9, 1, 7, 7), np.float32), y=np.arange(9) % 3)
    with pytest.raises(InvalidDataset):
        run(digits.request(tmp_path / "out", quantization=STATIC, data=tmp_path / "wrong.npz"))


def test_without_labels_the_outputs_are_compared(digits: Trained, tmp_path: Path) -> None:
    x, _ = digits.arrays()
    np.savez(tmp_path / "unlabelled.npz", x=x[:200])

    result = run(digits.request(tmp_path / "out", quantization=STATIC, data=tmp_path / "unlabelled.npz"))

    judged = result.fidelity["optimization"]
    assert (judged["metric"], judged["samples"]) == ("difference", 200)
    assert 0 < judged["drop"] < judged["allowed_drop"]


def test_a_model_without_layers_is_rejected(digits: Trained, tmp_path: Path) -> None:
    class Scale(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * 2).flatten(1)[:, :10]

    torch.export.save(torch.export.export(Scale(), (torch.zeros(2, 1, 8, 8),)), tmp_path / "scale.pt2")
    scale = replace(digits, path=tmp_path / "scale.pt2")
    with pytest.raises(OptimizationFailed, match="nothing to quantize"):
        run(scale.request(tmp_path / "out", quantization=STATIC))


def test_a_float16_that_overflows_is_rejected(digits: Trained, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        net[1].weight.fill_(2e5)  # beyond float16
    torch.export.save(torch.export.export(net.eval(), (torch.zeros(2, 1, 8, 8),)), tmp_path / "large.pt2")
    request = replace(digits, path=tmp_path / "large.pt2").request(
        tmp_path / "out", quantization={"method": "float16"}
    )
    with pytest.raises(VerificationFailed, match="does not behave like its source"):
        run(request)
