"""Hostile .pt2 and TorchScript files: torch alone would run their code, or stops at it by luck."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from exporters.convert import run
from exporters.errors import InvalidSource, UnsafeCheckpoint
from exporters.request import ExportRequest

from ..models import Mlp

Edit = Callable[[dict[str, bytes], Path], None]


class Touch:
    """Unpickling it leaves a file: the proof that code ran."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.marker, "w")


def _code(marker: Path) -> str:
    return f"__import__('pathlib').Path({str(marker)!r}).touch()"


def _edit_program(parts: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    program = json.loads(parts["models/model.json"])
    change(program)
    parts["models/model.json"] = json.dumps(program).encode()


def pickled_samples(parts: dict[str, bytes], marker: Path) -> None:
    torch.save(((Touch(marker),), {}), marker.parent / "samples.pt")
    parts["data/sample_inputs/model.pt"] = (marker.parent / "samples.pt").read_bytes()


def pickled_weight(parts: dict[str, bytes], marker: Path) -> None:
    config = json.loads(parts["data/weights/model_weights_config.json"])
    entry = next(iter(config["config"].values()))
    entry["use_pickle"] = True
    torch.save(Touch(marker), marker.parent / "weight.pt")
    parts[f"data/weights/{entry['path_name']}"] = (marker.parent / "weight.pt").read_bytes()
    parts["data/weights/model_weights_config.json"] = json.dumps(config).encode()


def pickled_constant(parts: dict[str, bytes], marker: Path) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    parts["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": entry}}).encode()
    parts["data/constants/opaque_obj_0"] = pickle.dumps(Touch(marker))


def pickled_weights_of_an_older_layout(parts: dict[str, bytes], marker: Path) -> None:
    torch.save({"x": Touch(marker)}, marker.parent / "weights.pt")
    parts["data/weights/model.pt"] = (marker.parent / "weights.pt").read_bytes()


def code_in_a_symbolic_size(parts: dict[str, bytes], marker: Path) -> None:
    text = parts["models/model.json"].decode()
    start = text.index('"expr_str": ')
    end = text.index(")", start)
    evil = json.dumps(_code(marker))
    parts["models/model.json"] = (text[:start] + f'"expr_str": {evil}' + text[end + 2 :]).encode()


def code_in_a_guard(parts: dict[str, bytes], marker: Path) -> None:
    _edit_program(parts, lambda program: program.update(guards_code=[_code(marker)]))


def a_guard_that_never_ends(parts: dict[str, bytes], marker: Path) -> None:
    _edit_program(parts, lambda program: program.update(guards_code=["max(9**9**9, 1) > 0"]))


def two_parts_of_one_name(parts: dict[str, bytes], marker: Path) -> None:
    parts |= {"extra/note": b"", "extra/Note": b""}


def a_call_of_a_python_function(parts: dict[str, bytes], marker: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        node = program["graph_module"]["graph"]["nodes"][0]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "", "arg": {"as_string": f"touch {marker}"}, "kind": 1}]

    _edit_program(parts, change)


def an_operator_that_opens_files(parts: dict[str, bytes], marker: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        program["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    _edit_program(parts, change)


def code_in_a_name(parts: dict[str, bytes], marker: Path) -> None:
    text = parts["models/model.json"].decode()
    evil = json.dumps(f"x={_code(marker)}")
    parts["models/model.json"] = text.replace('"name": "x"', f'"name": {evil}').encode()


def a_module_to_import(parts: dict[str, bytes], marker: Path) -> None:
    def change(program: dict[str, Any]) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace("builtins.tuple", "collections.defaultdict")

    _edit_program(parts, change)


def native_code(parts: dict[str, bytes], marker: Path) -> None:
    parts["data/aotinductor/model/model.wrapper.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    "edit",
    [
        pickled_samples,
        pickled_weight,
        pickled_constant,
        pickled_weights_of_an_older_layout,
        code_in_a_symbolic_size,
        code_in_a_guard,
        a_guard_that_never_ends,
        two_parts_of_one_name,
        a_call_of_a_python_function,
        an_operator_that_opens_files,
        code_in_a_name,
        a_module_to_import,
        native_code,
    ],
)
def test_a_program_that_would_run_code_is_refused(
    edit: Edit, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    source = _rewrite(checkpoint("mlp-pt2"), tmp_path / "model.pt2", lambda parts: edit(parts, marker))

    with pytest.raises(UnsafeCheckpoint, match="refused: loading it could run code"):
        run(ExportRequest(source, tmp_path / "out", "onnx"))

    assert not marker.exists()


def test_rewriting_alone_is_no_reason_to_refuse(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """The control of the test above."""
    source = _rewrite(checkpoint("mlp-pt2"), tmp_path / "model.pt2", lambda parts: None)

    assert run(ExportRequest(source, tmp_path / "out", "onnx")).verdict == "verified"


def test_damaged_json_is_no_fault_of_ours(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    def cut(parts: dict[str, bytes]) -> None:
        parts["models/model.json"] = parts["models/model.json"][:500]

    source = _rewrite(checkpoint("mlp-pt2"), tmp_path / "model.pt2", cut)

    with pytest.raises(InvalidSource, match="damaged"):
        run(ExportRequest(source, tmp_path / "out", "onnx"))


def test_a_program_for_a_gpu_says_how_to_move_it(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    def move(parts: dict[str, bytes]) -> None:
        parts["models/model.json"] = parts["models/model.json"].replace(b'"type": "cpu"', b'"type": "cuda"')

    source = _rewrite(checkpoint("mlp-pt2"), tmp_path / "model.pt2", move)

    with pytest.raises(InvalidSource, match=r"model\.cpu\(\)"):
        run(ExportRequest(source, tmp_path / "out", "onnx"))


def test_torchscript_that_writes_files_is_refused(tmp_path: Path) -> None:
    class Writer(Mlp):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x) + torch.from_file("stolen.pt", True, 1)  # creates what it maps

    torch.jit.save(torch.jit.script(Writer().eval()), tmp_path / "model.pt")
    options = {"inputs": [{"shape": ["batch", 6]}]}

    with pytest.raises(UnsafeCheckpoint, match="access more than the model"):
        run(ExportRequest(tmp_path / "model.pt", tmp_path / "out", "onnx", options=options))


def _rewrite(source: Path, target: Path, edit: Callable[[dict[str, bytes]], None]) -> Path:
    with zipfile.ZipFile(source) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    edit(parts)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(f"model/{name}", content)
    return target
