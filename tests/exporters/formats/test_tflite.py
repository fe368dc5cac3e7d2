"""TFLite: every sample is converted once; LiteRT's own interpreter answers for it."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from exporters import runners
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsupportedOption
from exporters.formats.torch_to_tflite import SPECIFICATION
from exporters.request import ExportRequest, ExportResult

from ..conftest import Export
from ..models import SAMPLES, ConvNet, Sample
from ..reproducible import contents

Convert = Callable[..., ExportResult]
cells = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
CONV, *_, READER = SAMPLES


@pytest.fixture
def tflite(exported: Export) -> Convert:
    return partial(exported, format_name="tflite")


def _metadata(result: ExportResult) -> dict:
    return json.loads((result.package_dir / "metadata.json").read_bytes())


@cells
def test_it_is_verified_at_a_batch_of_one(sample: Sample, tflite: Convert) -> None:
    result = tflite(sample)

    assert result.verdict == "verified"
    batch = 2 if sample.id == "fixed-pt2" else 1
    shapes = [shape for case in result.fidelity["cases"] for shape in case["input_shapes"].values()]
    assert [case["case"] for case in result.fidelity["cases"]][:2] == ["base", "other values"]
    assert {shape[0] for shape in shapes} == {batch}
    assert _metadata(result)["batch"] == {"dynamic": False, "size": batch, "independent_rows": False}
    assert _metadata(result)["dynamic_axes"] == {}


@cells
def test_names_dtypes_and_layout_are_the_sources(sample: Sample, tflite: Convert) -> None:
    result = tflite(sample)
    runner = runners.load(result.package_dir)

    traced = {"batch": 1, "tokens_dim_1": 5}
    shapes = {name: [traced.get(size, size) for size in shape] for name, shape in sample.shapes.items()}
    assert {spec.name: list(spec.shape) for spec in runner.inputs} == shapes
    assert [spec["shape"] for spec in _metadata(result)["input_specs"]] == list(shapes.values())
    dtypes = [str(tensor.dtype).removeprefix("torch.") for tensor in sample.inputs()]
    assert [spec.dtype for spec in runner.inputs] == dtypes
    assert [spec.name for spec in runner.outputs] == list(sample.outputs)


def test_it_answers_what_the_model_itself_answers(tflite: Convert) -> None:
    torch.manual_seed(0)
    model = ConvNet().eval()
    image = torch.randn(1, 1, 8, 8)

    actual = runners.load(tflite(CONV).package_dir).predict({"image": image.numpy()})

    with torch.no_grad():
        np.testing.assert_allclose(actual["output"], model(image).numpy(), rtol=1e-4, atol=1e-5)


def test_the_sizes_can_be_chosen(tflite: Convert) -> None:
    result = tflite(READER, fixed_sizes={"batch": 4, "tokens_dim_1": 9})

    runner = runners.load(result.package_dir)
    assert {spec.name: list(spec.shape) for spec in runner.inputs} == {"tokens": [4, 9], "scale": [4, 1]}
    assert result.verdict == "verified"


@pytest.mark.parametrize("sizes", [{"width": 1}, {"batch": 65}, {"batch": "1"}, {"batch": True}])
def test_a_size_that_the_model_does_not_take_is_refused(
    sizes: dict, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    request = ExportRequest(checkpoint(CONV.id), tmp_path / "out", "tflite", {"fixed_sizes": sizes})

    with pytest.raises(UnsupportedOption, match=f"cannot set '{next(iter(sizes))}'") as caught:
        run(request)

    assert caught.value.allowed == {"batch": [1, 64]}


def test_dynamic_quantization_stores_weights_of_int8(tflite: Convert) -> None:
    from ai_edge_litert.interpreter import Interpreter

    result = tflite(CONV, quantization="dynamic")

    assert result.verdict == "verified"
    assert result.fidelity["precision"] == "int8"
    assert _metadata(result)["artefact"]["quantization"] == "dynamic"
    quantized = Interpreter(model_path=str(result.package_dir / "model.tflite"))
    plain = Interpreter(model_path=str(tflite(CONV).package_dir / "model.tflite"))
    dtypes = [{detail["dtype"] for detail in one.get_tensor_details()} for one in (quantized, plain)]
    assert np.int8 in dtypes[0]
    assert np.int8 not in dtypes[1]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("quantization", "int4", "one of none, dynamic, full_integer, not .int4.\\.$"),
        ("supported_ops", ["SELECT_TF_OPS"], "one of .*TFLITE_BUILTINS"),
        ("fixed_sizes", [1], "must be an object"),
    ],
)
def test_what_is_not_offered_is_refused_with_the_reason(option: str, value: object, message: str) -> None:
    with pytest.raises(UnsupportedOption, match=message) as caught:
        SPECIFICATION.validate({option: value})

    assert caught.value.allowed


def test_a_network_that_branches_on_values_is_refused(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if bool(x.sum() > 0) else x - 1

    torch.jit.save(torch.jit.script(Branch()), tmp_path / "model.pt")
    options = {"inputs": [{"shape": ["batch", 3]}]}

    with pytest.raises(ConversionFailed, match="litert-torch cannot convert this model"):
        run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "tflite", options))


def test_a_traced_network_is_converted_too(tmp_path: Path) -> None:
    model = ConvNet().eval()
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 1, 8, 8)), tmp_path / "model.pt")

    result = run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "tflite", SAMPLES[1].options))

    assert result.verdict == "verified"


def test_weights_that_are_not_contiguous_are_taken(tmp_path: Path) -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transposed = nn.Parameter(torch.randn(4, 3).t())
            self.register_buffer("expanded", torch.randn(1, 4).expand(4, 4))
            self.strided = torch.randn(8, 6)[::2, ::2]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.transposed @ self.expanded @ self.strided

    torch.manual_seed(0)
    program = torch.export.export(Views().eval(), (torch.zeros(1, 3),))
    torch.export.save(program, tmp_path / "model.pt2")
    result = run(ExportRequest(tmp_path / "model.pt2", tmp_path / "package", "tflite"))
    assert result.verdict == "verified"


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("picture", np.zeros((1, 1, 8, 8), np.float32), "The inputs must be 'image'"),
        ("image", np.zeros((1, 1, 8, 8)), "must be float32, not float64"),
        ("image", np.zeros((2, 1, 8, 8), np.float32), r"the shape \[1, 1, 8, 8\], not \[2, 1, 8, 8\]"),
    ],
)
def test_a_wrong_input_is_named(name: str, array: np.ndarray, message: str, tflite: Convert) -> None:
    with pytest.raises(runners.InputError, match=message):
        runners.load(tflite(CONV).package_dir).predict({name: array})


def test_threads_do_not_see_each_others_inputs(tflite: Convert) -> None:
    runner = runners.load(tflite(CONV).package_dir)
    images = np.random.default_rng(0).standard_normal((64, 1, 1, 8, 8)).astype(np.float32)
    alone = [runner.predict({"image": image})["output"] for image in images]

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda image: runner.predict({"image": image})["output"], images))

    np.testing.assert_array_equal(together, alone)


def test_equal_inputs_give_equal_bytes_in_another_process(
    tflite: Convert, checkpoint: Callable[[str], Path], exporters_cli: Callable, tmp_path: Path
) -> None:
    """The other process converts one model, this one has converted several before."""
    done = exporters_cli("convert", checkpoint(READER.id), "--to", "tflite", "--out", tmp_path / "again")

    assert done.returncode == 0, done.stderr
    assert contents(tflite(READER).package_dir) == contents(tmp_path / "again")


def test_the_artefact_names_nobodys_files(tflite: Convert) -> None:
    data = (tflite(CONV).package_dir / "model.tflite").read_bytes()

    assert b"site-packages" not in data
    assert b".py" not in data


@pytest.mark.parametrize("kind", ["empty", "text", "missing"])
def test_a_file_that_is_no_model_is_an_error(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    if kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"no model\n" * 100)

    with pytest.raises((ValueError, RuntimeError)):
        runners.open_artefact("tflite", path)
