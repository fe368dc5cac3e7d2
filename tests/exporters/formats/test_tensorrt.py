"""TensorRT where it is not: the package that builds the engine on its target, and what it promises.

TensorRT itself needs a GPU. What is tested here is everything before it: options, profile, the ONNX, and the
parts of build_engine.py that run anywhere.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from exporters import package, registry, runners, sources
from exporters.base import Artefact, Case
from exporters.convert import run
from exporters.errors import ConversionFailed, MissingDependency, UnsupportedOption
from exporters.proof import golden
from exporters.request import ExportRequest, ExportResult
from exporters.stages.compare import fidelity_of_stand_in
from exporters.wrappers.tensorrt import build_engine

from ..conftest import Export
from ..models import SAMPLES

CONV, READER = SAMPLES[0], SAMPLES[4]


@pytest.fixture(autouse=True)
def _without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a machine which has it, and no GPU, tests the same."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)


def convert(source: Path, folder: Path, **options: Any) -> ExportResult:
    options = {"build_on_target": True, **options}
    return run(ExportRequest(source, folder / "out", "tensorrt", options=options))


def profile_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "profile.json").read_bytes())["inputs"])


def script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As on the target: nothing of this project can be imported."""
    return subprocess.run(
        [sys.executable, "-I", "-B", str(folder / "build_engine.py"), *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
    )


def test_without_tensorrt_it_says_so_and_what_works(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    assert "needs tensorrt" in str(registry.why_unavailable("tensorrt"))

    with pytest.raises(MissingDependency, match="set build_on_target"):
        convert(checkpoint(CONV.id), tmp_path, build_on_target=False)

    assert not (tmp_path / "out").exists()


def test_the_package_builds_on_its_target(exported: Export) -> None:
    result = exported(CONV, "tensorrt")

    assert result.verdict == "converted_not_executed"
    assert "run build_engine.py" in result.fidelity["reason"]
    assert result.fidelity["stand_in"]["format"] == "onnx"
    assert result.fidelity["stand_in"]["verdict"] == "verified"
    files = set(package.verify(result.package_dir).files)
    assert {"model.onnx", "profile.json", "build_engine.py", "golden.npz"} < files
    with pytest.raises(runners.NotExecutable, match="built on its target"):
        runners.load(result.package_dir)


def test_its_script_checks_the_files_and_asks_for_tensorrt(exported: Export, tmp_path: Path) -> None:
    folder = exported(CONV, "tensorrt").package_dir

    checked = script(folder, "--check")
    assert (checked.returncode, checked.stderr) == (0, "")
    built = script(folder)
    assert built.returncode == 2
    assert "pip install" in built.stderr
    package.verify(folder)

    shutil.copytree(folder, tmp_path / "changed")
    with (tmp_path / "changed" / "model.onnx").open("ab") as file:
        file.write(b"\x00")
    changed = script(tmp_path / "changed", "--check")
    assert changed.returncode == 1
    assert "does not match profile.json" in changed.stderr


def test_golden_inputs_outside_the_profile_are_told(exported: Export, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(exported(CONV, "tensorrt").package_dir, folder)
    case = golden.read(folder / "golden.npz")
    wide = {name: np.repeat(array, 40, axis=0) for name, array in case.inputs.items()}
    golden.write(folder / "golden.npz", replace(case, inputs=wide))

    done = script(folder, "--check")

    assert done.returncode == 1
    assert "outside the profile" in done.stderr


def test_the_command_line_verifies_what_it_cannot_run(exported: Export, exporters_cli: Callable) -> None:
    done = exporters_cli("verify", exported(CONV, "tensorrt").package_dir)

    assert done.returncode == 0
    assert "were not run" in done.stdout


def test_the_profile_follows_the_dynamic_axes(exported: Export) -> None:
    assert profile_of(exported(READER, "tensorrt").package_dir) == {
        "tokens": {"min": [1, 2], "opt": [8, 5], "max": [32, 10]},
        "scale": {"min": [1, 1], "opt": [8, 1], "max": [32, 1]},
    }
    assert profile_of(exported(SAMPLES[3], "tensorrt").package_dir) == {}


def test_a_batch_of_one_is_fixed(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    result = convert(checkpoint(CONV.id), tmp_path, max_batch_size=1)

    assert profile_of(result.package_dir) == {}
    assert golden.read(result.package_dir / "golden.npz").inputs["image"].shape == (1, 1, 8, 8)
    document = json.loads((result.package_dir / "metadata.json").read_bytes())
    assert document["batch"] == {"dynamic": False, "size": 1, "independent_rows": None}
    assert script(result.package_dir, "--check").returncode == 0


def test_what_is_asked_of_the_artefact_fits_its_profile(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    profile = {"batch": [2, 2, 2], "tokens_dim_1": [4, 6, 7]}

    result = convert(checkpoint(READER.id), tmp_path, profile=profile)

    assert profile_of(result.package_dir) == {"tokens": {"min": [2, 4], "opt": [2, 6], "max": [2, 7]}}
    shapes = [case["input_shapes"]["tokens"] for case in result.fidelity["stand_in"]["cases"]]
    assert len({tuple(shape) for shape in shapes}) >= 2
    assert all(shape[0] == 2 and 4 <= shape[1] <= 7 for shape in shapes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_size": 65}, "goes from 1 to 64 in the model, not from 1 to 65"),
        ({"profile": {"image": [1, 2, 3]}}, "no dynamic axis 'image'; its dynamic axes: batch"),
        ({"profile": {"batch": [8, 4, 2]}}, "is not .smallest, usual, largest."),
        ({"profile": {"batch": [1, 4]}}, "is not .smallest, usual, largest."),
        ({"profile": {"batch": [1, 4, 8]}, "max_batch_size": 4}, "differ"),
        ({"precision": "fp8"}, "precision must be one of fp32, fp16, int8"),
        ({"workspace_size_gb": 0}, "from 1 to 1024"),
        ({"precision": "int8"}, "quantized already"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_what_is_not_offered_is_refused(
    options: dict[str, Any], message: str, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOption, match=message):
        convert(checkpoint(CONV.id), tmp_path, **options)


def test_fp16_is_in_the_onnx_and_proven_there(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    result = convert(checkpoint(READER.id), tmp_path, precision="fp16")

    graph = onnx.load(str(result.package_dir / "model.onnx")).graph
    weights = {tensor.data_type for tensor in graph.initializer} - {TensorProto.INT64}
    assert weights == {TensorProto.FLOAT16}
    ends = {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
    assert ends == {TensorProto.FLOAT, TensorProto.INT64}
    assert result.fidelity["stand_in"]["precision"] == "float16"
    assert result.fidelity["stand_in"]["verdict"] == "verified"


def test_int8_takes_the_ranges_that_a_calibration_left_in_the_onnx(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    constants = {
        "scale": np.float32(0.03),
        "zero": np.int8(0),
        # Within 7 bits: of 8, onnxruntime's kernels for processors without VNNI saturate.
        "weight": random.integers(-63, 64, (6, 3)).astype(np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x8"]),
        helper.make_node("DequantizeLinear", ["x8", "scale", "zero"], ["x32"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "zero"], ["w32"]),
        helper.make_node("MatMul", ["x32", "w32"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, str(tmp_path / "model.onnx"))

    result = convert(tmp_path / "model.onnx", tmp_path, precision="int8")

    assert result.fidelity["stand_in"]["verdict"] == "verified"
    kinds = {node.op_type for node in onnx.load(str(result.package_dir / "model.onnx")).graph.node}
    assert kinds == {"QuantizeLinear", "DequantizeLinear", "MatMul"}


def test_the_targets_comparison_is_the_one_of_the_export() -> None:
    want = {"y": np.array([[1.0, -2.0, np.nan]], np.float32), "label": np.array([1, 2])}
    near = {"y": want["y"] * np.float32(1.0005), "label": want["label"]}
    far = {"y": want["y"] + np.float32(0.1), "label": np.array([1, 3])}

    assert build_engine.differences(want, near, rtol=1e-3, atol=1e-4) == {}
    found = build_engine.differences(want, far, rtol=1e-3, atol=1e-4)
    assert found == {"y": pytest.approx(0.1, rel=1e-3), "label": None}
    assert build_engine.differences(want, {"y": want["y"][:, :2]}, 1e-3, 1e-4) == {"y": None, "label": None}


def test_a_wrong_stand_in_is_a_failed_export(exported: Export, checkpoint: Callable[[str], Path]) -> None:
    folder = exported(CONV, "tensorrt").package_dir
    case = golden.read(folder / "golden.npz")
    wrong = replace(case, expected={name: array + 1 for name, array in case.expected.items()})
    artefact = Artefact(("model.onnx",), "tensorrt", stand_in="onnx")

    source = sources.load(checkpoint(CONV.id), {})

    def verdict(asked: Case) -> str:
        return str(fidelity_of_stand_in(source, [asked], artefact, folder, "elsewhere")["verdict"])

    assert (verdict(case), verdict(wrong)) == ("converted_not_executed", "failed")


def test_an_engine_without_its_machine_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "model.engine").write_bytes(b"engine")
    record = {"tensorrt": "11.4", "compute_capability": "9.0", "engine_sha256": ""}
    (tmp_path / "engine.json").write_text(json.dumps(record))

    with pytest.raises(runners.NotExecutable, match="TensorRT is not installed here"):
        runners.open_artefact("tensorrt", tmp_path / "model.engine")


@pytest.mark.parametrize("format_name", ["tensorrt", "openvino"])
def test_an_estimator_is_not_offered_to_what_has_no_operators_for_it(format_name: str) -> None:
    assert not {"sklearn", "xgboost", "lightgbm"} & set(registry.kinds(format_name))


def test_operators_of_machine_learning_are_refused(tmp_path: Path) -> None:
    node = onnx.helper.make_node("Normalizer", ["x"], ["y"], domain="ai.onnx.ml", norm="L2")
    values = [onnx.helper.make_tensor_value_info(name, 1, ["batch", 3]) for name in "xy"]
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")

    with pytest.raises(ConversionFailed, match=r"no operators of ai\.onnx\.ml"):
        run(ExportRequest(tmp_path / "model.onnx", tmp_path / "out", "tensorrt", {"build_on_target": True}))
