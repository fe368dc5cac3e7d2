"""The judgement of an artefact beside the original model, on the rows of a dataset."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters.base import Arrays, TensorSpec
from exporters.datasets import DatasetFile, open_dataset
from exporters.datasets.base import Dataset
from exporters.errors import ConversionFailed
from exporters.metrics.decoding import ModelFacts
from exporters.optimize.judgement import DIFFERENCE, Judge


def test_a_model_that_writes_to_its_inputs_does_not_change_those_of_the_other(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x.argmin(axis=1))
    data = open_dataset(DatasetFile(tmp_path / "data.npz", "npz"), [TensorSpec("x", "float32", ("batch", 3))])

    def writes(inputs: Arrays) -> Arrays:
        scores = inputs["x"]
        scores *= -1
        return {"scores": scores}

    found = Judge(writes, None, data, ModelFacts()).judge(writes)
    assert (found["original"], found["artefact"], found["passed"]) == (1, 1, True)


def numbers(folder: Path, **schema: str) -> Dataset:
    """200 rows of three numbers, of which the label is the largest one's position."""
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=x.argmax(axis=1))
    file = DatasetFile(folder / "data.npz", "npz", dict(schema))
    return open_dataset(file, [TensorSpec("x", "float32", ("batch", 3))], labelled=False)


def test_the_scores_of_the_classes_are_judged_and_not_an_embedding(tmp_path: Path) -> None:
    data = numbers(tmp_path)
    facts = ModelFacts(classes=("a", "b", "c"))

    def model(inputs: Arrays) -> Arrays:
        x = inputs["x"]
        return {"embedding": np.tile(x, (1, 4)), "logits": x.copy()}

    def broken(inputs: Arrays) -> Arrays:
        return model(inputs) | {"logits": np.zeros_like(inputs["x"])}

    judge = Judge(model, None, data, facts)
    assert judge.judge(model)["original"] == 1
    found = judge.judge(broken)
    assert (found["metric"], found["passed"], found["certain"]) == ("accuracy", False, True)
    assert found["drop"] == pytest.approx(judge.drop(broken))
    assert found["drop"] > 0.5


def test_a_reconstruction_of_integers_is_judged_by_its_values(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (50, 1, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", x=x)
    file = DatasetFile(tmp_path / "images.npz", "npz", {"task": "reconstruction"})
    data = open_dataset(file, [TensorSpec("x", "uint8", ("batch", 1, 4, 4))], labelled=False)

    def coder(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"].astype(np.float32) + 1}

    found = Judge(coder, None, data, ModelFacts()).judge(lambda inputs: {"y": coder(inputs)["y"] * 0})
    assert (found["metric"], found["passed"]) == ("mse", False)


def test_an_artefact_that_returns_nan_does_not_pass(tmp_path: Path) -> None:
    def model(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"].copy()}

    def broken(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"] * np.float32("nan")}

    classes = Judge(model, None, numbers(tmp_path), ModelFacts())
    assert not classes.judge(broken)["passed"]

    def regression(inputs: Arrays) -> Arrays:
        return {"y": inputs["x"].argmax(axis=1)[:, None].astype(np.float32)}

    judge = Judge(regression, None, numbers(tmp_path, task="regression"), ModelFacts())
    with pytest.raises(ConversionFailed):
        judge.judge(lambda inputs: {"y": regression(inputs)["y"] * np.float32("nan")})


def test_without_labels_the_outputs_are_compared(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x)
    file = DatasetFile(tmp_path / "data.npz", "npz", {})
    data = open_dataset(file, [TensorSpec("x", "float32", ("batch", 3))], labelled=False)
    judge = Judge(lambda inputs: {"y": inputs["x"]}, None, data, ModelFacts())
    found = judge.judge(lambda inputs: {"y": inputs["x"] * np.float32(1.1)})
    assert (found["metric"], found["samples"], found["passed"]) == (DIFFERENCE, 200, False)
    assert found["drop"] == pytest.approx(0.1, abs=1e-4)
    with pytest.raises(ConversionFailed, match="NaN"):
        judge.judge(lambda inputs: {"y": inputs["x"] * np.float32("nan")})


def test_few_rows_are_not_certain(tmp_path: Path) -> None:
    """Of 200 rows, the first batch is wrong: its share is allowed, and the interval goes beyond it."""
    sizes: list[int] = []

    def wrong_at_first(inputs: Arrays) -> Arrays:
        sizes.append(len(inputs["x"]))
        return {"y": inputs["x"] if len(sizes) > 1 else -inputs["x"]}

    def judge(allowed: float) -> dict[str, Any]:
        sizes.clear()
        data, given = numbers(tmp_path), {"accuracy": allowed}
        return Judge(lambda inputs: {"y": inputs["x"]}, None, data, ModelFacts(), given).judge(wrong_at_first)

    share = judge(0.0)["drop"]
    assert share == pytest.approx(sizes[0] / 200)
    outcomes = [(judge(allowed)["passed"], judge(allowed)["certain"]) for allowed in (0.0, share, 0.9)]
    assert outcomes == [(False, True), (True, False), (True, True)]
