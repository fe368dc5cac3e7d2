"""Quantization-aware training where static quantization loses accuracy, and where it cannot be done."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from exporters import convert
from exporters.errors import UnsupportedOption, VerificationFailed
from exporters.optimize.states import CHECKPOINT
from exporters.request import ExportRequest, ExportResult

from .conftest import Trained

QAT = {"method": "qat", "epochs": 5, "batch_size": 64, "learning_rate": 1e-4}
DYNAMIC = ({0: torch.export.Dim("batch", max=1024)},)


@pytest.fixture(scope="session")
def uneven(digits: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose channels have ranges from 1 to 1,000, of which one scale loses the small ones."""
    folder = tmp_path_factory.mktemp("uneven")
    with np.load(digits.calibration) as archive:
        x, y = torch.from_numpy(archive["x"]), torch.from_numpy(archive["y"])
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1), nn.Linear(2048, 10)
    net = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(8):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():  # the same function
        scale = torch.logspace(0, 3, 16)
        first.weight *= scale[:, None, None, None]
        first.bias *= scale
        second.weight /= scale[None, :, None, None]
        scale = torch.logspace(0, 3, 32)
        second.weight *= scale[:, None, None, None]
        second.bias *= scale
        last.weight.copy_((last.weight.reshape(10, 32, 64) / scale[None, :, None]).reshape(10, -1))
    torch.export.save(torch.export.export(net.eval(), (x[:2],), dynamic_shapes=DYNAMIC), folder / "net.pt2")
    return folder / "net.pt2"


@pytest.fixture
def request_for(digits: Trained, uneven: Path, tmp_path: Path) -> Callable[..., ExportRequest]:
    def make(quantization: dict[str, Any], name: str = "package", **fields: Any) -> ExportRequest:
        data = {"path": str(digits.calibration), "format": "npz"}
        optimization = {"quantization": quantization, "calibration": data, "training": data}
        request = ExportRequest(uneven, tmp_path / name, "onnx", optimization=optimization)
        return replace(request, **fields)

    return make


def judgement(result: ExportResult) -> dict[str, Any]:
    found: dict[str, Any] = result.fidelity["optimization"]
    return found


def test_training_beats_static_quantization(request_for: Callable[..., ExportRequest]) -> None:
    with pytest.raises(VerificationFailed) as static:
        convert.run(request_for({"method": "static"}, "static"))
    lost = static.value.details["fidelity"]["optimization"]
    assert lost["drop"] > 0.03, "the network is made so"
    result = convert.run(request_for(QAT, "qat"))
    assert judgement(result)["drop"] < lost["drop"] - 0.03
    assert judgement(result)["passed"]
    assert judgement(result)["original"] == lost["original"], "both are compared with the original network"
    trained = result.optimization["training"]
    assert (trained["layers"], len(trained["losses"])) == (3, 5)
    assert trained["losses"][-1] < trained["losses"][0]
    assert result.optimization["recipe"]["quantization"]["seed"] == 0
    assert result.optimization["compression_ratio"] > 2.5


class Killed(BaseException):
    """The worker is gone."""


def test_an_export_that_was_killed_in_epoch_3_ends_with_the_same_bytes(
    request_for: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    state = tmp_path / "state"
    undisturbed = convert.run(request_for(QAT, "undisturbed"))

    def die(step: str, percent: float, message: str) -> None:
        if message.startswith("Epoch 2 of 5"):
            raise Killed

    with pytest.raises(Killed):
        convert.run(request_for(QAT, "killed", training_dir=state), die)
    assert [path.name for path in state.iterdir()] == [CHECKPOINT]
    request = request_for(QAT, "resumed", training_dir=state)
    assert request.optimization is not None
    moved = tmp_path / "moved.npz"  # another worker has its files elsewhere
    moved.write_bytes(Path(request.optimization["training"]["path"]).read_bytes())
    request.optimization["training"] = {**request.optimization["training"], "path": str(moved)}
    epochs: list[str] = []
    resumed = convert.run(
        request,
        lambda step, percent, message: epochs.append(message[:7]) if step == "train" else None,
    )
    assert epochs == ["Epoch 3", "Epoch 4", "Epoch 5"]
    one, other = (result.package_dir / result.artefact for result in (undisturbed, resumed))
    assert one.read_bytes() == other.read_bytes()


def test_a_network_without_layers_to_train_is_an_error(
    request_for: Callable[..., ExportRequest], tmp_path: Path, digits: Trained
) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = nn.GRU(8, 10, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.rows(x[:, 0])[0][:, -1]
            return out

    program = torch.export.export(Recurrent().eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=DYNAMIC)
    torch.export.save(program, tmp_path / "gru.pt2")
    with pytest.raises(UnsupportedOption, match="recurrent layers stay in float"):
        convert.run(request_for(QAT, source=tmp_path / "gru.pt2"))


def test_training_data_is_needed(request_for: Callable[..., ExportRequest]) -> None:
    request = request_for(QAT)
    assert request.optimization is not None
    without = {name: value for name, value in request.optimization.items() if name != "training"}
    with pytest.raises(UnsupportedOption, match="training_dataset_id"):
        convert.check(replace(request, optimization=without))
