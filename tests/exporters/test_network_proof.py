"""What a network is asked before it is called verified: sizes, rows, integers, masks, stored samples."""

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from exporters import runners
from exporters.convert import run
from exporters.errors import InvalidSource
from exporters.request import ExportRequest, ExportResult

FORMATS = ("onnx", "openvino", "torchscript", "pt2", "pytorch", "tflite", "coreml")


def program(folder: Path, model: nn.Module, inputs: tuple[torch.Tensor, ...], dynamic: Any = None) -> Path:
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(model.eval(), inputs, dynamic_shapes=dynamic), path)
    return path


def traced(folder: Path, model: nn.Module, *inputs: torch.Tensor) -> Path:
    path = folder / "model.pt"
    torch.jit.trace(model.eval(), inputs, check_trace=False).save(str(path))
    return path


def inputs_of(*shape: int | str, dtype: str = "float32") -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": list(shape), "dtype": dtype}]}


def axes(result: ExportResult) -> Mapping[str, Any]:
    axes: Mapping[str, Any] = json.loads((result.package_dir / "metadata.json").read_bytes())["dynamic_axes"]
    return axes


class Rows(nn.Module):
    """A loop over the rows, which a trace unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.layer(x[i]) * (i + 1) for i in range(x.shape[0])])


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_loop_over_rows_that_was_traced_is_no_dynamic_batch(format_name: str, tmp_path: Path) -> None:
    path = traced(tmp_path, Rows(), torch.randn(3, 4))

    with pytest.raises(InvalidSource, match=r"(rows|size 3|fails on inputs)"):
        run(ExportRequest(path, tmp_path / "out", format_name, inputs_of("batch", 4)))


def test_the_same_loop_is_exported_at_the_rows_that_it_was_traced_with(tmp_path: Path) -> None:
    path = traced(tmp_path, Rows(), torch.randn(3, 4))

    assert run(ExportRequest(path, tmp_path / "out", "onnx", inputs_of(3, 4))).verdict == "verified"


class Part(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:5] * 2


def test_rows_that_a_model_leaves_out_end_the_batch(tmp_path: Path) -> None:
    result = run(ExportRequest(traced(tmp_path, Part(), torch.randn(3, 4)), tmp_path / "out", "onnx",
                               inputs_of("batch", 4)))  # fmt: skip

    assert axes(result)["batch"]["max"] == 5
    with pytest.raises(runners.InputError, match=r"batch.* 5"):
        runners.load(result.package_dir).predict({"x": np.zeros((6, 4), np.float32)})


class Squeezed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).squeeze()


def test_a_batch_whose_axis_is_squeezed_away_begins_at_two(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Squeezed().eval()).save(str(path))

    result = run(ExportRequest(path, tmp_path / "out", "onnx", inputs_of("batch", 4)))

    assert axes(result)["batch"] == {"min": 2, "max": None, "multiple": 1}


class Strided(nn.Module):
    """Takes sides of 8, 12, 16, ...: patches of 4, of which a kernel of 2 takes two."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 3, 4, stride=4)
        self.mix = nn.Conv2d(3, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c, h, w = x.shape
        return self.mix(self.patch(x.reshape(n, c, h // 4, 4, w // 4, 4).reshape(x.shape)))


@pytest.mark.parametrize("format_name", ["onnx", "openvino", "torchscript"])
def test_sizes_that_the_source_rejects_narrow_its_axes(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.manual_seed(0)
    model = torch.jit.script(Strided().eval())
    model.save(str(path))

    result = run(ExportRequest(path, tmp_path / "out", format_name, inputs_of("batch", 1, "high", "wide")))

    expected = {"min": 8, "max": None, "multiple": 4}
    assert (axes(result)["high"], axes(result)["wide"]) == (expected, expected)
    runner = runners.load(result.package_dir)
    for wrong in ((1, 1, 4, 16), (1, 1, 16, 18)):
        with pytest.raises(runners.InputError, match=r"multiple of 4|at least 8"):
            runner.predict({"x": np.zeros(wrong, np.float32)})
    for wrong in ((1, 1, 4, 16), (1, 1, 16, 18)):
        with pytest.raises(ValueError, match=r"The axis (high|wide) of the input x is (4|18)"):
            _wrapper(result)({"x": np.zeros(wrong, np.float32)})
    image = np.random.default_rng(0).standard_normal((2, 1, 20, 44)).astype(np.float32)
    (answer,) = runner.predict({"x": image}).values()
    with torch.no_grad():
        np.testing.assert_allclose(answer, model(torch.from_numpy(image)).numpy(), rtol=1e-3, atol=1e-5)


def _wrapper(result: ExportResult) -> Any:
    """``ModelWrapper.run`` of the package's Python wrapper."""
    path = result.package_dir / "runtimes/python/model_wrapper.py"
    spec = importlib.util.spec_from_file_location(f"wrapper_{result.format}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelWrapper().run


class Positions(nn.Module):
    """Sequences of up to 40."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Embedding(40, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.position(torch.arange(x.shape[1]))


def test_a_sequence_ends_where_the_source_does(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.jit.script(Positions().eval()).save(str(path))

    result = run(ExportRequest(path, tmp_path / "out", "onnx", inputs_of("batch", "length", 4)))

    assert axes(result)["length"] == {"min": 1, "max": 40, "multiple": 1}
    lengths = {case["input_shapes"]["x"][1] for case in result.fidelity["cases"]}
    assert lengths >= {1, 2, 16, 17, 40}


class Square(nn.Module):
    """Takes square images only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.transpose(2, 3)


def test_axes_that_move_together_are_asked_together(tmp_path: Path) -> None:
    path = traced(tmp_path, Square(), torch.randn(2, 1, 8, 8))

    result = run(ExportRequest(path, tmp_path / "out", "onnx", inputs_of("batch", 1, "high", "wide")))

    shapes = [tuple(case["input_shapes"]["x"]) for case in result.fidelity["cases"]]
    assert {shape[2] for shape in shapes} >= {1, 2, 17}
    assert {shape[0] for shape in shapes} == {1, 2, 3, 7}
    assert all(shape[2] == shape[3] for shape in shapes)


class Fixed(nn.Module):
    """Scripted, it takes any batch; its other axis is 16 or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_an_axis_of_one_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"'wide' .* one of its sizes only, 16"):
        run(ExportRequest(traced(tmp_path, Fixed(), torch.randn(2, 16)), tmp_path / "out", "onnx",
                          inputs_of("batch", "wide")))  # fmt: skip


class Looked(nn.Module):
    """Categories from 1,000 on: random ones are none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x - 1000).mean(1)


@pytest.mark.parametrize("format_name", ["onnx", "openvino", "torchscript", "tflite"])
def test_samples_suffice_where_random_inputs_are_invalid(format_name: str, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(1000, 1008, (5, 4))
    np.savez(tmp_path / "samples.npz", x=rows)
    path = traced(tmp_path, Looked(), torch.from_numpy(rows))
    options = inputs_of("batch", "length", dtype="int64")
    with pytest.raises(InvalidSource, match="sample inputs"):
        run(ExportRequest(path, tmp_path / "none", format_name, options))

    result = run(
        ExportRequest(path, tmp_path / "out", format_name, options, sample_inputs=tmp_path / "samples.npz")
    )

    assert result.verdict == "verified"
    sizes = {tuple(case["input_shapes"]["x"]) for case in result.fidelity["cases"]}
    if format_name == "tflite":
        assert {size[0] for size in sizes} == {1}
        assert sum(case["case"].startswith("samples") for case in result.fidelity["cases"]) == 5
    else:
        assert {size[0] for size in sizes} == {1, 2, 3, 5, 7}
