"""Pruned networks really are smaller, or the export says why they are not."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from exporters.convert import run
from exporters.datasets.schema import DatasetFile
from exporters.errors import OptimizationFailed, UnsupportedOption, ValidationFailed
from exporters.request import Validation

from ..models import SAMPLES
from .conftest import Trained

HALF = {"method": "structured", "sparsity": 0.5}


def saved(net: nn.Module, example: torch.Tensor, path: Path) -> Path:
    torch.manual_seed(0)
    dynamic = ({0: torch.export.Dim("batch", max=64)},)
    torch.export.save(torch.export.export(net.eval(), (example,), dynamic_shapes=dynamic), path)
    return path


@pytest.mark.parametrize("format_name", ["onnx", "pt2", "torchscript"])
def test_half_of_the_channels_are_gone(format_name: str, digits: Trained, tmp_path: Path) -> None:
    before = run(digits.request(tmp_path / "before", format_name))
    after = run(digits.request(tmp_path / "after", format_name, pruning=HALF))

    assert after.verdict == "verified"
    assert after.fidelity["reference"] == "the pruned source model in eager mode"
    assert after.artefact_size_bytes < 0.45 * before.artefact_size_bytes
    pruned = after.optimization["pruning"]
    assert pruned["sparsity"] == 0.5
    assert pruned["parameters"]["after"] < 0.3 * pruned["parameters"]["before"]
    assert pruned["multiplications"]["after"] < 0.35 * pruned["multiplications"]["before"]
    assert pruned["pruned"] == {"conv2d": [16, 8], "conv2d_1": [32, 16], "linear": [64, 32]}
    assert pruned["not_pruned"] == ["linear_1"]


def test_iterations_reach_the_same_sparsity_and_the_loss_is_reported(digits: Trained, tmp_path: Path) -> None:
    pruning = {**HALF, "sparsity": 0.25, "pruning_schedule": "iterative", "steps": 3}
    result = run(digits.request(tmp_path / "out", pruning=pruning, quantization={"method": "static"}))

    report = result.optimization
    assert report["pruning"]["sparsity"] == 0.25
    assert report["pruning"]["judgement"]["metric"] == "accuracy"
    assert report["pruning"]["judgement"]["original"] > 0.98
    assert report["judgement"]["original"] == report["pruning"]["judgement"]["artefact"]
    assert len(report["layers"]["quantized"]) == 4


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x)[0][:, -1])


def test_a_recurrent_network_says_that_it_has_no_channels_to_prune(digits: Trained, tmp_path: Path) -> None:
    path = saved(Recurrent(), torch.zeros(2, 5, 8), tmp_path / "gru.pt2")
    with pytest.raises(OptimizationFailed, match=r"No layer of this model can be pruned by channels.*linear"):
        run(replace(digits, path=path).request(tmp_path / "out", pruning=HALF))


class Attention(nn.Module):
    """The reshape to heads of a fixed size is not prunable; the hidden layer behind it is."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.hidden = nn.Linear(16, 64)
        self.head = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).reshape(x.shape[0], 4, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape[0], 4, 16)
        return self.head(nn.functional.gelu(self.hidden(x + mixed)).mean(1))


def test_layers_that_cannot_be_pruned_are_named(digits: Trained, tmp_path: Path) -> None:
    path = saved(Attention(), torch.zeros(2, 4, 16), tmp_path / "attention.pt2")
    report = run(replace(digits, path=path).request(tmp_path / "out", pruning=HALF)).optimization["pruning"]
    assert report["pruned"] == {"linear_1": [64, 32]}
    assert report["not_pruned"] == ["linear", "linear_2"]


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_the_smallest_weights_become_zero(pattern: str | None, digits: Trained, tmp_path: Path) -> None:
    pruning = {"method": "unstructured", "sparsity": 0.5, "pattern": pattern}
    result = run(digits.request(tmp_path / "out", pruning=pruning))

    assert 0.45 < result.optimization["pruning"]["sparsity"] <= 0.51
    model = onnx.load(str(result.package_dir / "model.onnx"))
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer if len(tensor.dims) > 1]
    zeros = sum(int((weight == 0).sum()) for weight in weights)
    assert zeros / sum(weight.size for weight in weights) > 0.45
    if pattern:
        (hidden,) = [weight for weight in weights if 512 in weight.shape]
        rows = hidden if hidden.shape[1] == 512 else hidden.T
        assert ((rows.reshape(64, -1, 4) == 0).sum(-1) >= 2).all()


def test_a_recurrent_network_can_lose_single_weights(digits: Trained, tmp_path: Path) -> None:
    path = saved(Recurrent(), torch.zeros(2, 5, 8), tmp_path / "gru.pt2")
    pruning = {"method": "unstructured", "sparsity": 0.75}
    report = run(replace(digits, path=path).request(tmp_path / "out", pruning=pruning)).optimization[
        "pruning"
    ]
    assert report["sparsity"] == 0.75
    assert {"gru.weight_ih_l0", "gru.weight_hh_l0", "linear"} == set(report["layers"])


def test_torchscript_is_rejected(digits: Trained, tmp_path: Path) -> None:
    sample = next(sample for sample in SAMPLES if sample.id == "conv-torchscript")
    path = sample.save(tmp_path / "model.pt")
    with pytest.raises(UnsupportedOption, match=r"upload the \.pt2 file"):
        run(replace(digits, path=path).request(tmp_path / "out", pruning=HALF, options=sample.options))


def test_a_validation_compares_with_the_network_before_pruning(digits: Trained, tmp_path: Path) -> None:
    dataset = DatasetFile(digits.test, "npz")
    request = digits.request(tmp_path / "out", pruning=HALF, validation=Validation(dataset))
    result = run(request)

    assert result.validation is not None
    assert result.validation["original_accuracy"] > 0.95
    pruned = result.optimization["pruning"]["judgement"]
    assert pruned["samples"] == 719
    assert result.validation["accuracy"] == pytest.approx(pruned["artefact"], abs=1e-5)

    strict = Validation(dataset, fail_threshold={"accuracy_drop_max": 0.001})
    with pytest.raises(ValidationFailed):
        run(replace(request, output_dir=tmp_path / "strict", validation=strict))
