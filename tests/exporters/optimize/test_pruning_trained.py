"""Training of pruned networks: the accuracy returns, zeros stay, and lost workers do not matter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from exporters.convert import run
from exporters.datasets.schema import DatasetFile
from exporters.optimize.states import CHECKPOINT
from exporters.request import ExportRequest, ExportResult, Validation

from .conftest import Trained

HALF = {"method": "structured", "sparsity": 0.5}
TRAINED = {"epochs": 2, "batch_size": 64, "learning_rate": 3e-3}


def pruned(digits: Trained, output_dir: Path, pruning: dict[str, Any], **fields: Any) -> ExportResult:
    """Export a pruned network, which is judged on the test rows."""
    return run(digits.request(output_dir, data=digits.test, pruning=pruning, **fields))


def weights(result: ExportResult) -> list[Any]:
    model = onnx.load(str(result.package_dir / result.artefact))
    return [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if len(tensor.dims) > 1]


def test_a_network_without_half_of_its_channels_loses_accuracy_and_gets_it_back(
    digits: Trained, tmp_path: Path
) -> None:
    cut = pruned(digits, tmp_path / "cut", HALF).optimization["pruning"]
    result = pruned(digits, tmp_path / "trained", HALF | TRAINED)
    trained = result.optimization["pruning"]
    assert cut["judgement"]["drop"] > 0.1
    assert trained["judgement"]["drop"] < 0.02
    assert trained["pruned"] == cut["pruned"]
    assert "training" not in cut
    assert (trained["training"]["rows"], len(trained["training"]["losses"])) == (1078, 2)
    assert result.verdict == "verified"
    assert result.fidelity["reference"] == "the pruned and trained source model in eager mode"


def test_zeros_stay_where_the_pattern_put_them(digits: Trained, tmp_path: Path) -> None:
    zeros = {"method": "unstructured", "sparsity": 0.5, "pattern": "2:4"}
    result = pruned(digits, tmp_path / "out", zeros | TRAINED)
    (hidden,) = [weight for weight in weights(result) if 512 in weight.shape]
    rows = hidden if hidden.shape[1] == 512 else hidden.T
    assert ((rows.reshape(64, -1, 4) == 0).sum(-1) == 2).all()
    cut = pruned(digits, tmp_path / "cut", zeros)
    (before,) = [weight for weight in weights(cut) if weight.shape == hidden.shape]
    assert ((before == 0) == (hidden == 0)).all()
    assert (before != hidden).any()


def test_zeros_stay_in_a_later_training_under_simulated_rounding(digits: Trained, tmp_path: Path) -> None:
    zeros = {"method": "unstructured", "sparsity": 0.5}
    result = pruned(
        digits,
        tmp_path / "out",
        zeros | TRAINED,
        quantization={"method": "qat", **TRAINED, "learning_rate": 1e-3},
    )
    (hidden,) = [weight for weight in weights(result) if 512 in weight.shape and 64 in weight.shape]
    assert hidden.dtype == "int8"
    assert (hidden == 0).mean() >= 0.5
    assert len(result.optimization["training"]["losses"]) == 2


@pytest.mark.parametrize("method", ["structured", "unstructured"])
def test_an_iterative_pruning_that_was_killed_ends_with_the_same_bytes(
    method: str, digits: Trained, tmp_path: Path
) -> None:
    class Killed(BaseException):
        """The worker is gone."""

    def die(step: str, percent: float, message: str) -> None:
        if message.startswith("Epoch 4 of 6"):
            raise Killed

    pruning = {"method": method, "sparsity": 0.6, "pruning_schedule": "iterative", "steps": 3, **TRAINED}

    def request(name: str, **fields: Any) -> ExportRequest:
        return digits.request(tmp_path / name, pruning=pruning, **fields)

    undisturbed = run(request("undisturbed"))
    report = undisturbed.optimization["pruning"]
    assert report["sparsity"] == pytest.approx(0.6, abs=0.03)
    assert len(report["training"]["losses"]) == 6
    state = tmp_path / "state"
    with pytest.raises(Killed):
        run(request("killed", training_dir=state), die)
    assert (state / CHECKPOINT).is_file()
    epochs: list[str] = []
    resumed = run(
        request("resumed", training_dir=state),
        lambda step, percent, message: epochs.append(message[:7]) if step == "train" else None,
    )
    assert epochs == ["Epoch 5", "Epoch 6"], "the steps that ended are not trained again"
    one, other = (result.package_dir / result.artefact for result in (undisturbed, resumed))
    assert one.read_bytes() == other.read_bytes()
    assert resumed.optimization["pruning"]["training"] == report["training"]


def test_weights_that_a_checkpoint_froze_are_trained(digits: Trained, tmp_path: Path) -> None:
    """Loaders of checkpoints freeze the weights, and so does a pruning before another training."""
    with torch.no_grad():
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        dynamic = ({0: torch.export.Dim("batch", max=64)},)
        program = torch.export.export(net.eval(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes=dynamic)
    torch.export.save(program, tmp_path / "frozen.pt2")
    frozen = replace(digits, path=tmp_path / "frozen.pt2")
    result = pruned(
        frozen,
        tmp_path / "out",
        {**HALF, **TRAINED},
        quantization={"method": "qat", **TRAINED},
        validation=Validation(DatasetFile(digits.test, "npz")),
    )
    first, second = result.optimization["pruning"]["training"], result.optimization["training"]
    assert second["losses"][-1] < second["losses"][0] < first["losses"][0]
    assert result.validation is not None
    assert result.validation["accuracy"] > result.validation["original_accuracy"] + 0.5
