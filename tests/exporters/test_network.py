"""The commands for the Python classes of deployment: ``export-network`` and ``check-network``."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from exporters import architecture, network, sources
from exporters.errors import InvalidSource, PackageCorrupt, UnsupportedOption
from exporters.request import ExportRequest

# TorchScript does not record the shapes of its inputs.
INPUTS: dict[str, dict[str, Any]] = {
    ".pt2": {},
    ".pt": {"inputs": [{"name": "input", "shape": ["batch", 3], "dtype": "float32"}]},
}


def perceptron(hidden: int = 4) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 2)).eval()


def saved(model: torch.nn.Module, path: Path) -> Path:
    """As a program, or as TorchScript if the name ends with ``.pt``."""
    if path.suffix == ".pt":
        torch.jit.save(torch.jit.trace(model, torch.zeros(2, 3)), str(path))
    else:
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(model, (torch.zeros(2, 3),), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
    return path


def events(command: str, request: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    path = folder / "request.json"
    path.write_text(json.dumps(request))
    words = [sys.executable, "-m", "exporters", command, str(path), "--confine", str(folder)]
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_network_is_exported_and_checked_by_confined_commands(tmp_path: Path) -> None:
    source = saved(perceptron(), tmp_path / "model.pt2")
    request = {"source": str(source), "output_dir": str(tmp_path / "out"), "format": "pickle"}
    exported = events("export-network", request, tmp_path)[-1]
    assert exported["event"] == "completed", exported
    result = exported["result"]
    assert result["files"] == ["model.pkl"]
    assert (result["parameter_count"], result["input_dimension"], result["output_dimension"]) == (26, 3, 2)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("model.pkl", "metadata.json", "fidelity.json", "golden.npz", "manifest.json")
    }
    checked = events("check-network", request | {"source": str(tmp_path / "out")}, tmp_path)[-1]
    assert checked["event"] == "completed", checked
    assert all(output["passed"] for output in checked["result"]["outputs"].values())

    golden = tmp_path / "out" / "golden.npz"
    golden.write_bytes(golden.read_bytes()[:-1])
    failed = events("check-network", request | {"source": str(tmp_path / "out")}, tmp_path)[-1]
    assert (failed["event"], failed["code"]) == ("failed", "package_corrupt")


@pytest.mark.parametrize("suffix", [".pt2", ".pt"])
def test_the_hash_of_an_architecture(tmp_path: Path, suffix: str) -> None:
    def hash_of(name: str, model: torch.nn.Module) -> str:
        source = sources.load(saved(model, tmp_path / f"{name}{suffix}"), INPUTS[suffix])
        return str(architecture.describe(source)["architecture_hash"])

    first = hash_of("first", perceptron())
    assert hash_of("retrained", perceptron()) == first
    named = torch.nn.Sequential()
    for name, layer in zip(("a", "b", "c"), perceptron(), strict=True):
        named.add_module(name, layer)
    assert hash_of("named", named.eval()) == first
    assert hash_of("wider", perceptron(5)) != first
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).eval()
    assert hash_of("relu", other) != first


def test_a_shared_weight_counts_once(tmp_path: Path) -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Linear(3, 3, bias=False)
            self.second = torch.nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight
            self.register_buffer("scale", torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.second(self.first(x) * self.scale)
            return found

    source = sources.load(saved(Tied().eval(), tmp_path / "tied.pt2"), {})
    assert architecture.describe(source)["parameter_count"] == 9


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    skops.io.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]), tmp_path / "model.skops")
    script = ExportRequest(saved(perceptron(), tmp_path / "model.pt"), tmp_path / "out", "onnx")
    with pytest.raises(InvalidSource, match=r"torch\.export\.save"):
        network.export(script, lambda *event: None, lambda *event: None)
    request = ExportRequest(tmp_path / "model.skops", tmp_path / "out", "onnx")
    with pytest.raises(InvalidSource, match="kind sklearn"):
        network.export(request, lambda *event: None, lambda *event: None)
    with pytest.raises(UnsupportedOption, match="pytorch, onnx, pickle"):
        network.export(
            ExportRequest(tmp_path / "model.skops", tmp_path / "out", "tflite"),
            lambda *event: None,
            lambda *event: None,
        )


@pytest.mark.parametrize("content", [b"", b"\x80\x04", pickle.dumps([1]), pickle.dumps({"/etc/x": b""})])
def test_a_damaged_pickle_is_no_network(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.pkl").write_bytes(content)
    with pytest.raises(PackageCorrupt, match=r"model\.pkl"):
        network.unpack(tmp_path / "model.pkl", tmp_path)
