"""A model whose rows influence each other is found, whatever the companions have in common with its rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim

from exporters.base import Arrays, Case, TensorSpec
from exporters.convert import run
from exporters.proof.independence import rows_are_independent
from exporters.request import ExportRequest

RANDOM = np.random.default_rng(0)
FLOATS = RANDOM.standard_normal((3, 4)).astype(np.float32)
INTEGERS = RANDOM.integers(0, 9, (3, 4))


class Function:
    def __init__(self, compute: Callable[[np.ndarray], np.ndarray], dtype: str = "float32") -> None:
        self._compute = compute
        self.inputs = (TensorSpec("x", dtype, ("batch", 4)),)
        self.outputs = (TensorSpec("y", "float32", ("batch", 4)),)

    def predict(self, inputs: Arrays) -> Arrays:
        return {"y": np.asarray(self._compute(inputs["x"]), np.float32)}


def independent(compute: Callable[[np.ndarray], np.ndarray], x: np.ndarray = FLOATS) -> bool:
    return rows_are_independent(Function(compute, str(x.dtype)), Case("golden", {"x": x}, {}))


def softmax(x: np.ndarray) -> np.ndarray:
    shares = np.exp(x - x.max(axis=0))
    return shares / shares.sum(axis=0)


MIXING: dict[str, Callable[[np.ndarray], Any]] = {
    "divided by the largest": lambda x: x / np.abs(x).max(),
    "divided by the smallest": lambda x: x / (np.abs(x).min() + 1),
    "statistics of the batch": lambda x: (x - x.mean(0)) / (x.std(0) + 1e-5),
    "softmax over the batch": softmax,
    "cumulative sum": lambda x: np.cumsum(x, axis=0),
    "cumulative sum from behind": lambda x: np.cumsum(x[::-1], axis=0)[::-1],
    "sorted over the batch": lambda x: np.sort(x, axis=0),
    "median of the batch": lambda x: x - np.median(x, axis=0),
    "number of rows": lambda x: x / len(x),
    "place in the batch": lambda x: x * (np.arange(len(x))[:, None] + 1),
    "the row before": lambda x: x + np.roll(x, 1, axis=0),
    "any row is NaN": lambda x: np.nan_to_num(x) * (0.5 if np.isnan(x).any() else 1.0),
    "any row is constant": lambda x: x + (x.std(axis=1) == 0).any(),
}


@pytest.mark.parametrize("name", MIXING)
def test_rows_that_influence_each_other_are_found(name: str) -> None:
    assert not independent(MIXING[name])


@pytest.mark.parametrize(
    "name", ["divided by the largest", "statistics of the batch", "cumulative sum", "sorted over the batch"]
)
def test_and_among_integers(name: str) -> None:
    assert not independent(MIXING[name], INTEGERS)


def test_independent_rows_may_share_a_batch() -> None:
    assert independent(lambda x: x * 2)
    assert independent(lambda x: x * 2, INTEGERS)
    assert independent(lambda x: (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True))


def test_a_batch_that_is_rejected_for_its_companion_proves_nothing_against_the_model() -> None:
    def strict(x: np.ndarray) -> np.ndarray:
        if np.isnan(x).any():
            raise ValueError("NaN")
        return x

    def fixed(x: np.ndarray) -> np.ndarray:
        if len(x) != 3:
            raise ValueError("3 rows")
        return x

    assert independent(strict)
    assert not independent(fixed)


class Normed(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.abs().amax()


@pytest.mark.parametrize(("module", "proven"), [(Normed(), False), (torch.nn.Linear(4, 4), True)])
def test_the_package_says_it(module: torch.nn.Module, proven: bool, tmp_path: Path) -> None:
    program = torch.export.export(
        module.eval(), (torch.randn(3, 4),), dynamic_shapes=({0: Dim("batch", max=64)},)
    )
    torch.export.save(program, tmp_path / "model.pt2")
    run(ExportRequest(tmp_path / "model.pt2", tmp_path / "package", "onnx", {}))
    metadata = json.loads((tmp_path / "package/metadata.json").read_bytes())
    assert metadata["batch"] == {"dynamic": True, "size": None, "independent_rows": proven}
    readme = (tmp_path / "package/README.md").read_text()
    assert ("influence each other" in readme) is not proven
