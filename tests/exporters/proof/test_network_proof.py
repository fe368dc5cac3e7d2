"""What a network is asked before it is called verified: sizes, rows, integers, masks, stored samples."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch import nn
from torch.export import Dim

from exporters import runners
from exporters.convert import run
from exporters.errors import InvalidSource, VerificationFailed
from exporters.proof import cases
from exporters.request import ExportRequest, ExportResult
from exporters.sources import load

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


@pytest.mark.large
def test_a_convnext_of_any_height_and_width(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("convnext_atto", pretrained=False).eval()
    path = tmp_path / "model.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    options = {"architecture": "timm:convnext_atto", **inputs_of("batch", 3, "height", "width")}

    result = run(ExportRequest(path, tmp_path / "out", "onnx", options))

    assert result.verdict == "verified"
    assert axes(result)["height"]["min"] == 32
    image = torch.randn(1, 3, 96, 128)
    (answer,) = runners.load(result.package_dir).predict({"x": image.numpy()}).values()
    with torch.no_grad():
        np.testing.assert_allclose(answer, model(image).numpy(), atol=1e-3)


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
    assert {shape[0] for shape in shapes} == {0, 1, 2, 3, 7}
    assert all(shape[2] == shape[3] for shape in shapes)


class Fixed(nn.Module):
    """Scripted, it takes any batch; its other axis is 16 or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def test_an_axis_of_one_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match=r"'wide' .* only runs with the size 16"):
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
        assert {size[0] for size in sizes} == {0, 1, 2, 3, 5, 7}


class Hashed(nn.Module):
    """Past 2,147 the product leaves int32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(97, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table((x * 1000003) % 97)


@pytest.mark.parametrize("format_name", ["onnx", "openvino", "tflite", "torchscript"])
def test_integers_are_asked_past_what_the_model_was_traced_with(format_name: str, tmp_path: Path) -> None:
    model = Hashed()
    path = program(tmp_path, model, (torch.zeros(1, 3, dtype=torch.int64),))
    request = ExportRequest(path, tmp_path / "out", format_name)
    if format_name in ("openvino", "tflite"):  # they compute in 32 bits
        with pytest.raises(VerificationFailed) as caught:
            run(request)
        assert not caught.value.details["fidelity"]["probes"]["integers"]["passed"]
        return
    result = run(request)
    asked = np.array([[5_000, 123_456, 9_999_999]])
    (answer,) = runners.load(result.package_dir).predict({"x": asked}).values()
    with torch.no_grad():
        np.testing.assert_allclose(answer, model(torch.from_numpy(asked)).numpy(), rtol=1e-5)


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5_000, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table(x).mean(1)


@pytest.mark.parametrize("kind", ["pt2", "torchscript"])
def test_an_index_is_asked_to_the_end_of_its_table_and_not_beyond(kind: str, tmp_path: Path) -> None:
    example = torch.zeros(2, 3, dtype=torch.int64)
    if kind == "pt2":
        path, options = program(tmp_path, Table(), (example,), {"x": {0: Dim("batch")}}), {}
    else:
        path, options = traced(tmp_path, Table(), example), inputs_of("batch", 3, dtype="int64")

    plan = cases.examine(load(path, options))

    assert max(case.inputs["x"].max(initial=0) for case in plan.cases) == 4_999
    assert bool(plan.rejected) == (kind == "torchscript")  # an exported program shows its table
    assert all("index out of range" in reason for reason in plan.rejected.values())


class Masked(nn.Module):
    """A row that is masked altogether averages nothing."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(torch.where(mask, 0.0, float("-inf")), -1)
        return (x * weights).sum(-1)


def test_masks_are_asked_with_whole_rows_masked_and_padding_on_both_sides(tmp_path: Path) -> None:
    path = program(tmp_path, Masked(), (torch.randn(3, 6), torch.ones(3, 6, dtype=torch.bool)))

    plan = cases.examine(load(path, {}))

    masks = np.concatenate([case.inputs["mask"] for case in plan.cases if case.kind == "masks"])
    found = {tuple(row) for row in masks.astype(int).tolist()}
    assert found >= {(0,) * 6, (1, 1, 1, 0, 0, 0), (0, 0, 0, 1, 1, 1), (1, 0, 0, 0, 0, 0), (1,) * 6}


def test_a_class_of_a_script_or_notebook_becomes_torchscript_again(tmp_path: Path) -> None:
    """Its name in the archive is ``__torch__.Net``: no module, no second dot."""
    code = (
        "import sys, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(4, 2)\n"
        "    def forward(self, x):\n"
        "        return self.layer(x)\n"
        "torch.jit.script(Net().eval()).save(sys.argv[1])\n"
    )
    (tmp_path / "script.py").write_text(code)
    path = tmp_path / "net.pt"
    subprocess.run([sys.executable, "-W", "ignore", tmp_path / "script.py", path], check=True)

    for name in ("torchscript", "pytorch"):
        result = run(ExportRequest(path, tmp_path / name, name, inputs_of("batch", 4)))

        assert result.verdict == "verified"


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wide", torch.randn(4, 6).t())
        self.narrow = torch.randn(3, 4).t()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.wide @ self.narrow


def test_constants_that_are_not_contiguous_become_tflite(tmp_path: Path) -> None:
    path = program(tmp_path, Transposed(), (torch.randn(2, 6),))

    assert run(ExportRequest(path, tmp_path / "out", "tflite")).verdict == "verified"


class Checked(nn.Module):
    """torch._check becomes aten._assert_scalar; the whole numbers are keys of its outputs."""

    def forward(self, x: torch.Tensor) -> dict[int, torch.Tensor]:
        count = x.sum().int().item()
        torch._check(count >= 0)
        torch._check(count < 100)
        return {1: x + count, 2: x + 1}


class Shorter(nn.Module):
    """Its guards compare with min()."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, y])[: min(x.shape[0], y.shape[0])]


def test_programs_with_checks_and_keys_that_are_numbers_are_safe_to_load(tmp_path: Path) -> None:
    source = load(program(tmp_path, Checked(), (torch.ones(2, 3),)), {})

    assert list(source.reference({"x": np.ones((2, 3), np.float32)})) == ["1", "2"]


def test_a_program_whose_guards_take_a_minimum_is_safe_to_load(tmp_path: Path) -> None:
    dynamic = {"x": {0: Dim.AUTO}, "y": {0: Dim.AUTO}}
    source = load(program(tmp_path, Shorter(), (torch.randn(6, 3), torch.randn(5, 3)), dynamic), {})

    (answer,) = source.reference(
        {name: np.ones((rows, 3), np.float32) for name, rows in (("x", 4), ("y", 7))}
    ).values()
    assert answer.shape == (4, 3)


class Brief(nn.Module):
    """Weights in bfloat16, inputs and outputs in float32."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 16).bfloat16()
        self.second = nn.Linear(16, 3).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x.bfloat16()).relu()).float()


@pytest.mark.parametrize("format_name", ["onnx", "openvino", "tflite", "torchscript"])
def test_weights_in_bfloat16_agree_within_one_of_its_steps(format_name: str, tmp_path: Path) -> None:
    path = program(tmp_path, Brief(), (torch.randn(2, 4),), {"x": {0: Dim("batch")}})

    result = run(ExportRequest(path, tmp_path / "out", format_name))

    precision = None if format_name == "torchscript" else "bfloat16"
    assert (result.verdict, result.fidelity["precision"]) == ("verified", precision)


class Quantized(nn.Module):
    """Divides by a step that follows from the range: OpenVINO leaves some ties by one digit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = (x.max() - x.min()) / 255
        return torch.clamp(torch.round((x - x.min()) / step), 0, 255).to(torch.uint8)


@pytest.mark.parametrize("kind", ["pt2", "torchscript", "onnx"])
def test_a_program_that_rounds_is_asked_on_its_ties(kind: str, tmp_path: Path) -> None:
    example, options = torch.randn(4, 16), {}
    if kind == "torchscript":
        path, options = traced(tmp_path, Quantized(), example), inputs_of(4, 16)
    else:
        path = program(tmp_path, Quantized(), (example,))
    if kind == "onnx":
        path = run(ExportRequest(path, tmp_path / "onnx", "onnx")).package_dir / "model.onnx"

    ties = [case.inputs["x"] for case in cases.examine(load(path, options)).cases if case.kind == "ties"]

    halves = ties[0]
    assert (halves * 2 == np.round(halves * 2)).all()
    assert (halves != np.round(halves)).any()
    assert len(ties) > 8
    for rows in ties[1:]:
        levels = (rows - rows.min()) / (rows.max() - rows.min()) * 255
        assert (np.abs(levels - np.floor(levels) - 0.5) < 1e-3).sum() >= rows.size // 3


def test_quantization_that_leaves_its_ties_is_refused(tmp_path: Path) -> None:
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[6] x) => (uint8[6] y, float s, uint8 z)'
        "{ y, s, z = DynamicQuantizeLinear (x) }"
    )
    onnx.save(graph, tmp_path / "model.onnx")

    with pytest.raises(VerificationFailed) as caught:
        run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "openvino"))

    assert caught.value.details["fidelity"]["failure"]["classes"] == ["ties"]
    assert run(ExportRequest(tmp_path / "model.onnx", tmp_path / "onnx", "onnx")).verdict == "verified"


class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).softmax(-1)


@pytest.mark.parametrize("format_name", ["onnx", "openvino", "torchscript", "pt2"])
def test_a_batch_of_no_rows_is_asked(format_name: str, tmp_path: Path) -> None:
    path = program(tmp_path, Scores(), (torch.randn(2, 4),), {"x": {0: Dim("batch")}})

    result = run(ExportRequest(path, tmp_path / "out", format_name))

    (case,) = (case for case in result.fidelity["cases"] if case["class"] == "empty")
    assert case["input_shapes"]["x"] == [0, 4]
    assert case["passed"]
    assert result.performance["batch_size"] == 1
    assert axes(result)["batch"]["min"] == 1
