"""Damaged OpenVINO, TorchScript and TFLite artefacts of networks: the verifier finds them, or no row tells
them from the whole."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ai_edge_litert import schema_py_generated as tflite

from exporters import registry, runners
from exporters.base import FAILED, PROGRAM, Source
from exporters.convert import run
from exporters.proof import cases
from exporters.proof.verify import compare
from exporters.request import ExportRequest
from exporters.runners.openvino import OpenVinoRunner, runtime
from exporters.runners.tflite import load as load_tflite
from exporters.runners.torchscript import load as load_script
from exporters.sources import load

NETWORKS = ("conv-pt2", "mlp-pt2", "reader-pt2")
WEIGHTS = 16  # of each constant
Change = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
Damaged = tuple[str, runners.Runner]


def _changes(array: npt.NDArray[Any], random: np.random.Generator) -> Iterator[tuple[str, Change]]:
    """Of a float constant: one value further off, transposed, dropped."""
    for place in random.permutation(array.size)[:WEIGHTS].tolist():
        yield "weight", partial(_step, place=place)
    if array.ndim > 1 and array.shape[-1] == array.shape[-2] > 1:
        yield "axis", lambda one: np.ascontiguousarray(one.swapaxes(-1, -2))
    yield "dropped", np.zeros_like


def _step(array: npt.NDArray[Any], place: int) -> npt.NDArray[Any]:
    array.flat[place] += 0.1 * np.abs(array).max()
    return array


def _openvino(path: Path, random: np.random.Generator) -> Iterator[Damaged]:
    core = runtime().Core()

    def runner(model: Any) -> OpenVinoRunner:
        return OpenVinoRunner(model, core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))

    whole = core.read_model(path)
    constants = [op for op in whole.get_ordered_ops() if op.get_type_name() == "Constant"]
    for constant in constants:
        array = np.array(constant.data)
        if array.dtype.kind != "f" or not array.any() or not np.isfinite(array).all():
            continue
        for kind, change in _changes(array, random):
            model = core.read_model(path)
            name = constant.get_friendly_name()
            node = next(op for op in model.get_ops() if op.get_friendly_name() == name)
            other = runtime().opset13.constant(change(array.copy()))
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(other.output(0))
            yield kind, runner(model)
    narrow = core.read_model(path)
    steps = runtime().preprocess.PrePostProcessor(narrow)
    steps.output(0).tensor().set_element_type(runtime().Type.i32)
    yield "int32", runner(steps.build())


def _torchscript(path: Path, random: np.random.Generator) -> Iterator[Damaged]:
    runner = load_script(path)
    module: Any = runner._call
    for tensor in (*module.parameters(), *module.buffers()):
        whole = tensor.detach().numpy().copy()
        if whole.dtype.kind != "f" or not whole.any():
            continue
        for kind, change in _changes(whole, random):
            with torch.no_grad():
                tensor.copy_(torch.from_numpy(change(whole.copy())))
                yield kind, runner
                tensor.copy_(torch.from_numpy(whole))


def _tflite(path: Path, random: np.random.Generator) -> Iterator[Damaged]:
    content = bytearray(path.read_bytes())
    model: Any = tflite.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    damaged = path.with_name("damaged.tflite")
    for tensor in map(graph.Tensors, range(graph.TensorsLength())):
        buffer = model.Buffers(tensor.Buffer())
        if tensor.Type() != tflite.TensorType.FLOAT32 or not buffer.DataLength():
            continue
        # The buffer's array is a view of `content`.
        constant = buffer.DataAsNumpy().view(np.float32).reshape(tensor.ShapeAsNumpy())
        whole = constant.copy()
        for kind, change in _changes(whole, random):
            constant[...] = change(whole.copy())
            damaged.unlink(missing_ok=True)  # an interpreter may still have it mapped
            damaged.write_bytes(content)
            yield kind, load_tflite(damaged)
        constant[...] = whole


DAMAGES = {"openvino": _openvino, "torchscript": _torchscript, "tflite": _tflite}


def _independent(source: Source) -> dict[str, npt.NDArray[Any]]:
    random = np.random.default_rng(77)
    sizes = {name: dimension.example or 16 for name, dimension in source.dimensions.items()}
    sizes |= {"batch": 50} if "batch" in source.dimensions else {}
    return {
        spec.name: random.integers(*source.integers[spec.name], shape, endpoint=True).astype(spec.dtype)
        if spec.name in source.integers
        else random.normal(size=shape).astype(spec.dtype)
        for spec, shape in zip(source.inputs, source.shapes(sizes).values(), strict=True)
    }


def _differs(one: dict[str, npt.NDArray[Any]], other: dict[str, npt.NDArray[Any]]) -> bool:
    return any(not np.allclose(one[name], other[name], rtol=1e-3, atol=1e-4) for name in one)


@pytest.mark.parametrize("format_name", DAMAGES)
def test_damaged_networks_are_not_verified(
    format_name: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    found: Counter[str] = Counter()
    harmless = 0
    harmful_and_missed = []
    for name in NETWORKS:
        path = checkpoint(name)
        result = run(ExportRequest(path, tmp_path / name, format_name))
        assert result.verdict == "verified"
        options = registry.specification(format_name).validate({})
        source = registry.presented(
            registry.routes(format_name, PROGRAM, options)[0], load(path, {}), options
        )
        asked = cases.plan(source)
        rows = _independent(source)
        right = source.reference(rows)
        for kind, runner in DAMAGES[format_name](tmp_path / name / result.artefact, random):
            if compare(asked, runner.predict)["verdict"] == FAILED:
                found[kind] += 1
            elif _differs(right, runner.predict(rows)):
                harmful_and_missed.append((name, kind))
            else:
                harmless += 1  # a weight behind a unit that never fires, within the tolerance on all rows
    assert harmful_and_missed == []
    assert found.total() >= 100
    assert found.total() >= 0.98 * (found.total() + harmless)
    assert set(found) >= {"weight", "dropped"}
