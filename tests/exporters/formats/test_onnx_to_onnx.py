"""ONNX as a source of ONNX, and the options of the format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from exporters import registry, runners
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsupportedOption
from exporters.formats import onnx_file
from exporters.request import ExportRequest

from ..models import SAMPLES, Sample
from ..reproducible import contents
from .torch_formats import Reshaping, export_elsewhere, save_program

PROGRAMS = [sample for sample in SAMPLES if sample.kind == "pt2"]
cells = pytest.mark.parametrize("sample", PROGRAMS, ids=lambda sample: sample.id)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sample], Path]:
    """The file that the sample's author wrote with torch's older exporter, at opset 13."""
    folder = tmp_path_factory.mktemp("onnx")

    def get(sample: Sample) -> Path:
        path = folder / f"{sample.id}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            torch.onnx.export(
                sample.build().eval(),
                sample.inputs(),
                str(path),
                dynamo=False,
                opset_version=13,
                input_names=list(sample.shapes),
                output_names=list(sample.outputs),
                dynamic_axes={
                    name: {axis: str(size) for axis, size in enumerate(shape) if isinstance(size, str)}
                    for name, shape in sample.shapes.items()
                },
            )
        return path

    return get


def document(folder: Path) -> dict:
    return json.loads((folder / "metadata.json").read_bytes())


@cells
def test_it_is_verified_and_keeps_its_opset(
    sample: Sample, written: Callable[[Sample], Path], tmp_path: Path
) -> None:
    result = run(ExportRequest(written(sample), tmp_path / "out", "onnx"))

    assert (result.verdict, result.converter) == ("verified", "optimized")
    assert document(tmp_path / "out")["artefact"]["opset_version"] == 13
    runner = runners.load(tmp_path / "out")
    assert {spec.name: list(spec.shape) for spec in runner.inputs} == sample.shapes
    inputs = sample.arrays(rows=2)
    actual = runner.predict(inputs)
    for name, array in sample.answers(inputs).items():
        np.testing.assert_allclose(actual[name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [17, 23])
def test_another_opset_is_made_where_it_is_asked_for(
    opset: int, written: Callable[[Sample], Path], tmp_path: Path
) -> None:
    options = {"opset_version": opset}
    result = run(ExportRequest(written(PROGRAMS[0]), tmp_path / "out", "onnx", options))

    assert (result.verdict, result.converter) == ("verified", "onnx-version-converter")
    assert onnx_file.opset(onnx.load(tmp_path / "out/model.onnx")) == opset


def test_equal_inputs_give_equal_bytes_here_and_elsewhere(
    written: Callable[[Sample], Path], tmp_path: Path
) -> None:
    options = {"opset_version": 17, "simplify": True}
    requests = [
        ExportRequest(written(PROGRAMS[-1]), tmp_path / name, "onnx", options) for name in ("a", "b", "c")
    ]

    for request in requests[:2]:
        run(request)
    export_elsewhere(requests[2:])

    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")


def test_weights_are_no_inputs_and_nothing_names_the_author(tmp_path: Path) -> None:
    """As exporters of IR version 3 wrote them."""
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], doc_string="/home/author/model.py")],
        "graph",
        [value("x", TensorProto.FLOAT, [None, 4]), value("w", TensorProto.FLOAT, [4, 2])],
        [value("y", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, ir_version=3, opset_imports=[helper.make_opsetid("", 13)])
    helper.set_model_props(model, {"path": "/home/author/model.py"})
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())

    result = run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "onnx"))

    assert result.verdict == "verified"
    assert [spec.shape for spec in runners.load(tmp_path / "out").inputs] == [("batch", 4)]
    assert b"author" not in (tmp_path / "out/model.onnx").read_bytes()


@pytest.mark.parametrize(
    "options",
    [{"optimize": False}, {"optimize_for_inference": False}],
    ids=["optimize", "optimize_for_inference"],
)
def test_without_optimisation_the_graph_is_the_authors(
    options: dict, written: Callable[[Sample], Path], tmp_path: Path
) -> None:
    result = run(ExportRequest(written(PROGRAMS[0]), tmp_path / "out", "onnx", options))

    nodes = [
        [node.op_type for node in onnx.load(path).graph.node]
        for path in (written(PROGRAMS[0]), tmp_path / "out/model.onnx")
    ]
    assert result.converter == "as-is"
    assert nodes[0] == nodes[1]


def test_an_operator_that_an_older_opset_lacks_is_said(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["y"])],
        "graph",
        [value("x", TensorProto.FLOAT, ["batch", 4])],
        [value("y", TensorProto.FLOAT, ["batch", 4])],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())

    with pytest.raises(ConversionFailed, match="opset 17") as caught:
        run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "onnx", {"opset_version": 17}))

    assert len(caught.value.details["converters_tried"]) == 2


def test_weights_past_the_limit_lie_beside_the_model(
    written: Callable[[Sample], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is protobuf's 2 GB: too much for a test."""
    monkeypatch.setattr(onnx_file, "_INLINE_LIMIT_BYTES", 100)
    monkeypatch.setattr(onnx_file, "_EXTERNAL_FROM_BYTES", 64)

    result = run(ExportRequest(written(PROGRAMS[0]), tmp_path / "out", "onnx"))

    assert result.verdict == "verified"
    assert document(tmp_path / "out")["artefact"]["files"] == ["model.onnx", "model.onnx.data"]
    again = run(ExportRequest(tmp_path / "out/model.onnx", tmp_path / "again", "onnx"))
    assert again.verdict == "verified"


@pytest.mark.parametrize("kind", ["pt2", "onnx"])
def test_axes_that_are_not_named_become_fixed(
    kind: str, written: Callable[[Sample], Path], checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    sample = PROGRAMS[-1]
    source = written(sample) if kind == "onnx" else checkpoint(sample.id)
    options = {"dynamic_axes": {"tokens": [0], "scale": [0], "scores": [0]}}

    result = run(ExportRequest(source, tmp_path / "out", "onnx", options))

    assert result.verdict == "verified"
    tokens, scale = runners.load(tmp_path / "out").inputs
    assert tokens.shape[0] == scale.shape[0] == "batch"
    assert tokens.shape[1] == (16 if kind == "onnx" else 5)  # the size that its author traced with
    assert list(document(tmp_path / "out")["dynamic_axes"]) == ["batch"]


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"picture": [0]}, "but the inputs and outputs of the model are 'image', 'output'"),
        ({"image": [0, 2]}, "Axis 2 of 'image' is fixed"),
        ({"image": "batch"}, "is not a list of axis numbers"),
    ],
    ids=["name", "fixed", "type"],
)
def test_axes_that_do_not_exist_are_refused_with_those_that_do(
    axes: dict, message: str, written: Callable[[Sample], Path], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOption, match=message) as caught:
        run(ExportRequest(written(PROGRAMS[0]), tmp_path / "out", "onnx", {"dynamic_axes": axes}))

    assert caught.value.allowed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", [{"opset_version": 12}, {"optimize": 1}, {"dynamic_axes": [0]}], ids=str)
def test_a_value_that_is_not_offered_is_refused(option: dict) -> None:
    with pytest.raises(UnsupportedOption) as caught:
        registry.specification("onnx").validate(option)

    assert caught.value.details["option"] in option


def test_below_opset_18_sizes_stay_symbols(tmp_path: Path) -> None:
    """The seed's own example, opset 17, of a model whose trace would lose the batch."""
    source = save_program(Reshaping(), 8, tmp_path / "model.pt2")

    result = run(ExportRequest(source, tmp_path / "out", "onnx", {"opset_version": 13, "simplify": True}))

    assert (result.verdict, result.converter) == ("verified", "torchscript")
    assert onnx_file.opset(onnx.load(tmp_path / "out/model.onnx")) == 13
