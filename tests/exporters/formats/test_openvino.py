"""OpenVINO: precision, colour order, names, the ways there, and the runner."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch import nn
from torch.export import Dim

from exporters import registry, runners
from exporters.base import PROGRAM
from exporters.convert import run
from exporters.errors import ConversionFailed, MissingDependency, UnsupportedOption
from exporters.request import ExportRequest, ExportResult
from exporters.runners.openvino import runtime

from ..conftest import Export
from ..models import SAMPLES

CONV, READER = SAMPLES[0], SAMPLES[4]
FILES = ("model.xml", "model.bin")


def save(model: nn.Module, inputs: tuple[torch.Tensor, ...], folder: Path) -> Path:
    """With a dynamic batch in every input."""
    batch = Dim("batch")
    torch.manual_seed(0)
    program = torch.export.export(model.eval(), inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def convert(source: Path, folder: Path, **options: Any) -> ExportResult:
    return run(ExportRequest(source, folder / "out", "openvino", options=options))


def convert_script(model: nn.Module, shape: list[int | str], folder: Path) -> ExportResult:
    torch.jit.save(torch.jit.script(model.eval()), folder / "model.pt")
    return convert(folder / "model.pt", folder, inputs=[{"shape": shape, "dtype": "float32"}])


@pytest.mark.parametrize(("precision", "part"), [("FP16", 1 / 2), ("INT8", 1 / 4)])
def test_lower_precision_takes_its_part_of_the_space_and_is_held_to_its_own_tolerance(
    precision: str, part: float, checkpoint: Callable[[str], Path], exported: Export, tmp_path: Path
) -> None:
    whole = (exported(CONV, "openvino").package_dir / "model.bin").stat().st_size

    result = convert(checkpoint(CONV.id), tmp_path, precision=precision)

    # Biases stay as they are in INT8, and every channel of weights has a scale.
    assert part <= (result.package_dir / "model.bin").stat().st_size / whole < part + 0.1
    assert result.verdict == "verified"
    assert result.fidelity["precision"] == {"FP16": "float16", "INT8": "int8"}[precision]
    assert result.fidelity["outputs"]["output"]["max_abs"] > 1e-5
    if precision == "INT8":
        # A ResNet-18 with compressed weights is off by 1e12 with two.
        runner: Any = runners.open_artefact("openvino", result.package_dir / "model.xml")
        assert runner._compiled.get_property("NUM_STREAMS") == 1


def test_equal_bytes_whatever_was_converted_before_in_whichever_process(
    checkpoint: Callable[[str], Path], exporters_cli: Callable, tmp_path: Path
) -> None:
    """OpenVINO numbers the nodes of all the models that a process has seen: here it is not the first."""
    convert(checkpoint(READER.id), tmp_path, precision="INT8")

    done = exporters_cli(
        "convert",
        checkpoint(READER.id),
        "--to",
        "openvino",
        "--out",
        tmp_path / "again",
        '--option=precision="INT8"',
    )

    assert done.returncode == 0, done.stderr
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_artefact_does_not_tell_how_it_was_made(exported: Export) -> None:
    text = (exported(READER, "openvino").package_dir / "model.xml").read_text()

    for trace in ("site-packages", "conversion_parameters", "is_python_object", "aten", str(Path.cwd())):
        assert trace not in text


def test_dynamic_axes_are_kept_and_named(exported: Export) -> None:
    runner = runners.load(exported(READER, "openvino").package_dir)

    assert runner.inputs[0].shape == ("batch", "tokens_dim_1")
    tokens, scale = np.ones((7, 9), np.int64), np.ones((7, 1), np.float32)
    assert runner.predict({"tokens": tokens, "scale": scale})["scores"].shape == (7, 4)


class Colours(nn.Module):
    """float32[batch, 3, 8, 8] → float32[batch, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(image).mean((2, 3))


def test_reversed_channels_are_part_of_the_artefact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, image = Colours(), torch.randn(2, 3, 8, 8)
    source = save(model, (image,), tmp_path)

    result = convert(source, tmp_path, model_optimizer_args={"reverse_input_channels": True})

    answer = runners.load(result.package_dir).predict({"image": image.flip(1).numpy()})["output"]
    np.testing.assert_allclose(answer, model(image).detach().numpy(), rtol=1e-4, atol=1e-5)
    document = json.loads((result.package_dir / "metadata.json").read_bytes())
    assert document["artefact"]["reverse_input_channels"] is True


def test_reversed_channels_contradict_a_declared_preprocessing(tmp_path: Path) -> None:
    source = save(Colours(), (torch.randn(2, 3, 8, 8),), tmp_path)
    options = {"model_optimizer_args": {"reverse_input_channels": True}}
    declared = {"resize": {"method": "resize", "size": [8, 8]}, "format": {"color_space": "RGB"}}

    with pytest.raises(UnsupportedOption, match="Remove reverse_input_channels"):
        run(ExportRequest(source, tmp_path / "out", "openvino", options=options, preprocessing=declared))


def test_data_type_is_another_name_of_precision(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    result = convert(checkpoint("mlp-pt2"), tmp_path, model_optimizer_args={"data_type": "FP16"})

    assert result.fidelity["precision"] == "float16"


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "BF16"},
        {"precision": 16},
        {"model_optimizer_args": {"scale": 255}},
        {"model_optimizer_args": {"data_type": "half"}},
        {"model_optimizer_args": {"reverse_input_channels": "yes"}},
        {"precision": "FP16", "model_optimizer_args": {"data_type": "FP32"}},
    ],
    ids=lambda options: json.dumps(options),
)
def test_what_is_not_offered_is_refused_before_anything_is_read(options: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.specification("openvino").validate(options)

    assert caught.value.allowed


def test_channels_are_not_reversed_where_there_is_no_image(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOption, match=r"none: x \['batch', 6\]"):
        convert(checkpoint("mlp-pt2"), tmp_path, model_optimizer_args={"reverse_input_channels": True})


def test_int8_alone_needs_nncf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)  # as if it were not installed
    specification = registry.specification("openvino")

    assert registry.routes("openvino", PROGRAM, specification.validate({"precision": "FP16"}))
    with pytest.raises(MissingDependency, match="needs nncf"):
        registry.routes("openvino", PROGRAM, specification.validate({"precision": "INT8"}))


class Repeats(nn.Module):
    """Twice the same output, and the input itself."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = x + 1
        return y, y, x


def test_outputs_that_are_one_tensor_have_their_own_names(tmp_path: Path) -> None:
    result = convert(save(Repeats(), (torch.randn(2, 3),), tmp_path), tmp_path)

    tried = {entry["converter"]: entry["result"] for entry in result.fidelity["converters_tried"]}
    assert tried == {"fx": "conversion_failed", "torchscript": "verified"}
    runner = runners.load(result.package_dir)
    assert [spec.name for spec in runner.inputs] == ["x"]
    assert [spec.name for spec in runner.outputs] == ["output_0", "output_1", "output_2"]


class Sums(nn.Module):
    """A loop over the batch with a branch in it: bodies of their own in the graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        total = x
        for row in range(x.shape[0]):
            if bool(x[row].sum() > 0):  # noqa: SIM108 - TorchScript
                total = total + x[row]
            else:
                total = total * 0.5
        return total


def test_loops_and_branches_stay_loops_and_branches(tmp_path: Path) -> None:
    result = convert_script(Sums(), ["batch", 4], tmp_path)

    assert (result.converter, result.verdict) == ("torchscript", "verified")
    assert "Loop" in (result.package_dir / "model.xml").read_text()


class Listens(nn.Module):
    """float32[batch, length, 4] → float32[batch, length, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        return self.gru(sound)[0]


def test_what_openvino_cannot_read_from_torch_goes_by_onnx(tmp_path: Path) -> None:
    result = convert_script(Listens(), ["batch", "length", 4], tmp_path)

    assert (result.converter, result.verdict) == ("onnx-torchscript", "verified")
    assert not list(result.package_dir.glob("*.onnx"))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": np.zeros((2, 6), np.float32)}, "The inputs must be 'x', not 'y'"),
        ({"x": np.zeros((2, 6), np.float64)}, "must be float32, not float64"),
        ({"x": np.zeros((2, 5), np.float32)}, r"must have the shape \['batch', 6\], not \[2, 5\]"),
    ],
    ids=["name", "dtype", "shape"],
)
def test_a_wrong_input_is_named(inputs: dict[str, Any], message: str, exported: Export) -> None:
    with pytest.raises(runners.InputError, match=message):
        runners.load(exported(SAMPLES[2], "openvino").package_dir).predict(inputs)


def test_threads_do_not_get_each_others_answers(exported: Export) -> None:
    runner = runners.load(exported(CONV, "openvino").package_dir, threads=1)
    random = np.random.default_rng(0)
    images = [random.standard_normal((1 + number % 3, 1, 8, 8)).astype(np.float32) for number in range(60)]
    alone = [runner.predict({"image": image})["output"].copy() for image in images]

    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda image: runner.predict({"image": image})["output"], images))

    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_it_computes_in_float32_even_where_the_processor_has_bfloat16(exported: Export) -> None:
    artefact = exported(CONV, "openvino").package_dir / "model.xml"
    runner: Any = runners.open_artefact("openvino", artefact)

    assert str(runner._compiled.get_property("INFERENCE_PRECISION_HINT")) == "<Type: 'float32'>"


@pytest.mark.parametrize("damage", ["no weights", "half the weights", "half the graph", "no graph at all"])
def test_a_damaged_artefact_is_not_loaded(damage: str, exported: Export, tmp_path: Path) -> None:
    graph, weights = ((exported(CONV, "openvino").package_dir / name).read_bytes() for name in FILES)
    if damage != "no weights":
        kept = len(weights) // 2 if damage == "half the weights" else len(weights)
        (tmp_path / "model.bin").write_bytes(weights[:kept])
    kept = len(graph) // 2 if damage == "half the graph" else len(graph)
    (tmp_path / "model.xml").write_bytes(b"\x00" * 64 if damage == "no graph at all" else graph[:kept])

    with pytest.raises(RuntimeError):
        runners.open_artefact("openvino", tmp_path / "model.xml")


def test_an_operator_that_nobody_knows_is_a_failed_conversion(tmp_path: Path) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvalsh(x @ x.transpose(1, 2))

    with pytest.raises(ConversionFailed, match="OpenVINO cannot convert this model") as caught:
        convert_script(Spectrum(), ["batch", 3, 3], tmp_path)

    assert {entry["result"] for entry in caught.value.details["converters_tried"]} == {"conversion_failed"}


class Spare(nn.Module):
    """An input that nothing reads, and one that is returned as it came."""

    def forward(self, x: torch.Tensor, unused: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"same": x, "twice": 2 * x}


def test_inputs_that_are_unused_or_returned_keep_their_names(tmp_path: Path) -> None:
    result = convert(save(Spare(), (torch.randn(2, 3), torch.randn(2)), tmp_path), tmp_path)

    compiled = runtime().Core().compile_model(result.package_dir / "model.xml")
    rows = np.ones((4, 3), np.float32)
    answers = compiled({"x": rows, "unused": np.zeros(4, np.float32)})
    np.testing.assert_array_equal(answers["same"], rows)
    np.testing.assert_array_equal(answers["twice"], 2 * rows)


class Attention(nn.Module):
    """A row that is masked altogether has weights of 0; the maximum of its scores is -inf."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = torch.where(mask, 0.0, float("-inf"))
        return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask), scores.amax(-1)


@pytest.mark.parametrize("boolean", [True, False])
def test_rows_that_are_masked_altogether_are_answered_as_by_torch(boolean: bool, tmp_path: Path) -> None:
    class Added(Attention):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            scores = torch.where(mask, 0.0, float("-inf"))
            return nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=scores), scores.amax(-1)

    model = Attention() if boolean else Added()
    x, mask = torch.randn(2, 3, 4, 8), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    result = convert(save(model, (x, mask), tmp_path), tmp_path)
    mask[0, 0, 1], mask[:, :, :, 3] = False, False

    answers = runners.load(result.package_dir).predict({"x": x.numpy(), "mask": mask.numpy()})

    assert result.verdict == "verified"
    for wanted, found in zip(model(x, mask), answers.values(), strict=True):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_running_leaves_no_file_and_reports_to_nobody(exported: Export, tmp_path: Path) -> None:
    folder = exported(CONV, "openvino").package_dir
    before = sorted(path.name for path in folder.iterdir())
    code = (
        "import sys; from pathlib import Path; from exporters import imports, runners;"
        f"imports.why_not('openvino'); imports.why_not('nncf'); runners.load(Path({str(folder)!r}));"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]"
    )
    environment = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }

    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, env=environment, capture_output=True
    )

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == before


def test_overlaps_that_equal_the_threshold_are_kept(tmp_path: Path) -> None:
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]>'
        "g (float[1,2,4] boxes, float[1,1,2] scores) => (int64[selected,3] kept)"
        "<int64 most = {2}, float[1] overlap = {0.5}>"
        "{ kept = NonMaxSuppression (boxes, scores, most, overlap) }"
    )
    onnx.save(graph, tmp_path / "model.onnx")
    result = convert(tmp_path / "model.onnx", tmp_path)

    boxes = np.array([[[0, 0, 1, 1], [0, 0, 0.5, 1]]], np.float32)
    scores = np.array([[[0.9, 0.8]]], np.float32)
    (kept,) = runners.load(result.package_dir).predict({"boxes": boxes, "scores": scores}).values()

    np.testing.assert_array_equal(kept, [[0, 0, 0], [0, 0, 1]])
