"""Core ML: it cannot run here, so what is written is read back, and nothing is ever called verified."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

from exporters import package, runners, sources
from exporters.base import TensorSpec
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsupportedOption
from exporters.formats import coreml_package
from exporters.formats.torch_to_coreml import SPECIFICATION
from exporters.proof import cases
from exporters.request import ExportRequest, ExportResult
from exporters.runners.coreml import CoremlRunner

from ..conftest import Export
from ..models import SAMPLES, Sample
from ..reproducible import contents

Convert = Callable[..., ExportResult]
cells = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.id)
CONV, CONV_SCRIPT, MLP, _, READER = SAMPLES
elsewhere = pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")


@pytest.fixture
def coreml(exported: Export) -> Convert:
    return partial(exported, format_name="coreml")


def _metadata(result: ExportResult) -> dict[str, Any]:
    return json.loads((result.package_dir / "metadata.json").read_bytes())


def _spec(result: ExportResult) -> Any:
    import coremltools

    return coremltools.utils.load_spec(str(result.package_dir / "model.mlpackage"))


def _axes(feature: Any) -> list[Any]:
    array = feature.type.multiArrayType
    ranges = [(one.lowerBound, one.upperBound) for one in array.shapeRange.sizeRanges]
    return [low if low == high else (low, high) for low, high in ranges] or list(array.shape)


@elsewhere
@cells
def test_it_is_converted_but_never_verified(sample: Sample, coreml: Convert) -> None:
    result = coreml(sample)

    assert result.verdict == "converted_not_executed"
    assert "Apple" in result.fidelity["reason"]
    assert result.performance == {}


@cells
def test_coremltools_reads_the_sources_names_dtypes_and_ranges(sample: Sample, coreml: Convert) -> None:
    result = coreml(sample)
    spec = _spec(result)

    most = 64 if sample is CONV else 128
    ranges = {"batch": (1, most), "tokens_dim_1": (2, 1024)}
    assert {feature.name: _axes(feature) for feature in spec.description.input} == {
        name: [ranges.get(size, size) for size in shape] for name, shape in sample.shapes.items()
    }
    assert [feature.name for feature in spec.description.output] == list(sample.outputs)
    types = {feature.name: feature.type.multiArrayType for feature in spec.description.input}
    dtypes = {name: one.ArrayDataType.Name(one.dataType) for name, one in types.items()}
    assert dtypes == {name: "INT32" if name == "tokens" else "FLOAT32" for name in sample.shapes}
    assert _metadata(result)["artefact"]["dtypes"] == ({"tokens": "int32"} if sample is READER else {})


def test_the_ranges_are_told_where_the_model_left_them_open(coreml: Convert) -> None:
    document = _metadata(coreml(READER))

    assert document["dynamic_axes"] == {
        "batch": {"min": 1, "max": 128, "multiple": 1},
        "tokens_dim_1": {"min": 2, "max": 1024, "multiple": 1},
    }


def test_the_package_carries_the_folder(coreml: Convert) -> None:
    result = coreml(CONV)

    inner = "model.mlpackage/Data/com.apple.CoreML"
    assert _metadata(result)["artefact"]["files"] == [
        "model.mlpackage/Manifest.json",
        f"{inner}/model.mlmodel",
        f"{inner}/weights/weight.bin",
    ]
    assert set(_metadata(result)["artefact"]["files"]) < set(package.verify(result.package_dir).files)


def test_the_axes_can_be_fixed(coreml: Convert) -> None:
    result = coreml(READER, fixed_sizes={"tokens_dim_1": 7})

    assert [_axes(feature) for feature in _spec(result).description.input] == [[1, 7], [1, 1]]
    assert _metadata(result)["batch"] == {"dynamic": False, "size": 1, "independent_rows": None}


def test_precision_target_and_compute_units_are_what_was_asked(coreml: Convert) -> None:
    half = coreml(CONV)
    options = {"precision": "float32", "minimum_deployment_target": "macOS14", "compute_units": "cpu_and_ne"}
    full = coreml(CONV, **options)

    weights = "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin"
    sizes = [(result.package_dir / weights).stat().st_size for result in (half, full)]
    assert sizes[1] > 1.5 * sizes[0]
    assert [_spec(result).specificationVersion for result in (half, full)] == [6, 8]
    assert _spec(full).description.metadata.userDefined["compute_units"] == "cpu_and_ne"
    assert {name: _metadata(full)["artefact"][name] for name in options} == options


def test_the_targets_are_all_that_coremltools_has() -> None:
    import coremltools

    option = SPECIFICATION.options["minimum_deployment_target"]
    members = coremltools.target.__members__
    assert set(option.allowed or ()) == {
        name for name, version in members.items() if version >= coremltools.target.iOS15
    }
    assert set(option.refused) == set(members) - set(option.allowed or ())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("minimum_deployment_target", "iOS14", "iOS15.*an ML program needs iOS15"),
        ("minimum_deployment_target", "iOS99", "one of iOS15"),
        ("compute_units", "gpu", "one of all, cpu_only, cpu_and_gpu, cpu_and_ne"),
        ("precision", "int8", "one of float16, float32"),
    ],
)
def test_what_is_not_offered_is_refused_with_the_reason(option: str, value: str, message: str) -> None:
    with pytest.raises(UnsupportedOption, match=message) as caught:
        SPECIFICATION.validate({option: value})

    assert caught.value.allowed


def test_a_recurrent_network_keeps_its_batch_by_the_other_converter(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.GRU(4, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.cells(x)[0]

    program = torch.export.export(
        Recurrent().eval(), (torch.randn(2, 5, 4),), dynamic_shapes={"x": {0: Dim("batch", max=8)}}
    )
    torch.export.save(program, tmp_path / "model.pt2")

    result = run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "coreml"))

    tried = [(entry["converter"], entry["result"]) for entry in result.fidelity["converters_tried"]]
    assert tried == [("program", "conversion_failed"), ("script", "converted_not_executed")]
    assert [_axes(feature) for feature in _spec(result).description.input] == [[(1, 8), 5, 4]]


def test_a_group_norm_keeps_its_batch_and_its_meaning(tmp_path: Path) -> None:
    from exporters.formats.torch_to_coreml import _group_norm

    norm = nn.GroupNorm(2, 6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 6, 4, 5)
    torch.testing.assert_close(_group_norm(x, 2, norm.weight, norm.bias, norm.eps), norm(x))
    torch.testing.assert_close(_group_norm(x, 3), nn.functional.group_norm(x, 3))
    program = torch.export.export(norm.eval(), (x,), dynamic_shapes={"input": {0: Dim("batch", max=8)}})
    torch.export.save(program, tmp_path / "model.pt2")

    result = run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "coreml"))

    assert result.converter == "program"


def test_a_choice_between_a_tensor_and_a_number_keeps_its_meaning(tmp_path: Path) -> None:
    """coremltools 9 alone: Unsupported fx node where, kind where.scalarother."""
    from exporters.formats.torch_to_coreml import _where

    class Chosen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.where(x > 0, x, 0.5)

    x = torch.randn(3, 4)
    for tensor, number in ((x, 0.5), (x.half(), 0.5), (x.long(), 2), (x.long(), 0.5)):
        expected = torch.where(x > 0, tensor, number)
        torch.testing.assert_close(_where(x > 0, tensor, number), expected, rtol=0, atol=0)
    program = torch.export.export(Chosen(), (x,), dynamic_shapes={"x": {0: Dim("batch", max=8)}})
    torch.export.save(program, tmp_path / "model.pt2")

    result = run(ExportRequest(tmp_path / "model.pt2", tmp_path / "out", "coreml"))

    assert result.converter == "program"


def test_sizes_computed_in_a_trace_are_converted_with_this_numpy(tmp_path: Path) -> None:
    """coremltools 9 alone ends in a TypeError: only 0-dimensional arrays can be converted to scalars."""

    class Halves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            half = x.shape[2] // 2
            return x.reshape(x.shape[0], half * 2, -1)

    torch.jit.save(torch.jit.trace(Halves(), torch.zeros(2, 4, 6)), tmp_path / "model.pt")
    options = {"inputs": [{"shape": [2, 4, 6]}]}

    result = run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "coreml", options))

    assert result.verdict == "converted_not_executed"


def test_a_model_with_another_interface_is_a_failed_conversion(
    coreml: Convert, checkpoint: Callable[[str], Path]
) -> None:
    manifest = coreml(MLP).package_dir / "model.mlpackage/Manifest.json"
    source = sources.load(checkpoint(MLP.id), {})
    example = cases.plan(source)[0]
    coreml_package.check(manifest, source, example)

    def check(**changes: Any) -> None:
        coreml_package.check(
            manifest,
            replace(source, **changes.get("source", {})),
            replace(example, **changes.get("case", {})),
        )

    for wrong in (
        {"source": {"inputs": (TensorSpec("y", "float32", ("batch", 6)),)}},
        {"source": {"inputs": (TensorSpec("x", "int64", ("batch", 6)),)}},
        {"source": {"inputs": (TensorSpec("x", "float32", ("batch", 7)),)}},
        {"case": {"expected": {"other": example.expected["output"]}}},
        {"case": {"expected": {"output": example.expected["output"][:, :2]}}},
    ):
        with pytest.raises(ConversionFailed, match="coremltools produced"):
            check(**wrong)


def test_a_batch_that_a_converter_froze_is_a_failed_conversion(
    coreml: Convert, checkpoint: Callable[[str], Path]
) -> None:
    """As a trace does: the input is open, and the answer has the batch of the example."""
    result = coreml(SAMPLES[3])
    source = sources.load(checkpoint(SAMPLES[3].id), {})
    example = cases.plan(source)[0]
    opened = replace(source, inputs=(TensorSpec("x", "float32", ("batch", 6)),))

    with pytest.raises(ConversionFailed, match="coremltools produced 'x' of the inputs"):
        coreml_package.check(result.package_dir / "model.mlpackage/Manifest.json", opened, example)


def test_equal_inputs_give_equal_bytes_in_another_process(
    coreml: Convert, checkpoint: Callable[[str], Path], exporters_cli: Callable, tmp_path: Path
) -> None:
    """The other process converts one model, this one has converted several before."""
    done = exporters_cli("convert", checkpoint(READER.id), "--to", "coreml", "--out", tmp_path / "again")

    assert done.returncode == 0, done.stderr
    assert contents(coreml(READER).package_dir) == contents(tmp_path / "again")


def test_the_artefact_names_nobodys_files_and_no_day(coreml: Convert) -> None:
    for name in _metadata(coreml(CONV))["artefact"]["files"]:
        data = (coreml(CONV).package_dir / name).read_bytes()
        assert b"site-packages" not in data
        assert b"conversion_date" not in data


@elsewhere
def test_its_runner_says_where_it_runs(coreml: Convert) -> None:
    with pytest.raises(runners.NotExecutable, match="on a Mac"):
        runners.load(coreml(CONV).package_dir)


class _Recorder:
    """Stands for MLModel, which does not exist here: answers with what it was given, as float32."""

    def predict(self, data: dict[str, Any]) -> dict[str, Any]:
        self.given = data
        return {"sum": data["tokens"].sum(1).astype(np.float32), "many": data["tokens"]}


def test_the_runner_keeps_the_sources_dtypes() -> None:
    interface = {
        "inputs": [{"name": "tokens", "dtype": "int64", "shape": ["batch", 3]}],
        "outputs": [
            {"name": "sum", "dtype": "float64", "shape": ["batch"]},
            {"name": "many", "dtype": "int64", "shape": ["batch", 3]},
        ],
    }
    model = _Recorder()
    runner = CoremlRunner(model, interface)

    answer = runner.predict({"tokens": np.array([[1, 2, 3]])})

    assert model.given["tokens"].dtype == np.int32
    assert {name: array.dtype for name, array in answer.items()} == {"sum": np.float64, "many": np.int64}
    with pytest.raises(runners.InputError, match="does not fit into 32 bits"):
        runner.predict({"tokens": np.array([[1, 2, 2**31]])})
    with pytest.raises(runners.InputError, match="must be int64, not int32"):
        runner.predict({"tokens": np.array([[1, 2, 3]], np.int32)})
