"""An artefact beside its source on a dataset, with a network trained on the digits of scikit-learn."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.export import Dim

from exporters import package
from exporters.base import Arrays, TensorSpec
from exporters.convert import run
from exporters.datasets import DatasetFile, open_dataset
from exporters.errors import ConversionFailed, InvalidDataset, UnsupportedOption, ValidationFailed
from exporters.metrics.decoding import ModelFacts, decoder
from exporters.proof import validation
from exporters.request import ExportRequest, ExportResult, Validation


@pytest.fixture
def export(digits: tuple[Path, Path, float], tmp_path: Path) -> Callable[..., ExportResult]:
    model, data, _ = digits

    def call(format_name: str = "onnx", progress: Any = lambda *_: None, **fields: Any) -> ExportResult:
        asked = Validation(DatasetFile(data, "npz", name="digits", version="v1.0"), **fields)
        request = ExportRequest(model, tmp_path / "package", format_name, validation=asked)
        # What a worker sends
        request = ExportRequest.from_json(json.loads(json.dumps(request.to_json())))
        return run(request, progress)

    return call


def test_an_export_is_validated_and_its_package_says_how_good_it_is(
    export: Callable[..., ExportResult], digits: tuple[Path, Path, float]
) -> None:
    seen: list[tuple[str, str]] = []
    result = export(progress=lambda step, percent, message: seen.append((step, message)))
    accuracy = digits[2]
    assert accuracy > 0.9

    assert result.validation is not None
    assert result.validation["accuracy"] == result.validation["original_accuracy"] == pytest.approx(accuracy)
    assert result.validation["accuracy_drop"] == 0
    assert (result.validation["passed"], result.validation["samples"]) == (True, 450)
    assert {"top5", "f1", "precision", "recall"} < result.validation.keys()
    assert result.steps_s["validate"] >= 0
    assert ("validate", "Validating: 450 of 450 rows") in seen

    folder = result.package_dir
    package.verify(folder)
    document = json.loads((folder / "validation_results.json").read_text())
    assert validation.summary(document) == result.validation
    assert document["dataset"] == {
        "name": "digits",
        "version": "v1.0",
        "checksum": None,
        "format": "npz",
        "task_type": None,
        "task": "classification",
        "num_samples": 450,
    }
    assert np.diag(document["confusion"]).sum() == np.sum(document["confusion"]) == 450
    assert document["metrics"]["accuracy"]["interval"] == [0, 0]
    assert json.loads((folder / "metadata.json").read_text())["validation"] == result.validation
    assert "on 450 rows" in (folder / "README.md").read_text()


def test_the_results_are_the_same_bytes_each_time(
    export: Callable[..., ExportResult], tmp_path: Path
) -> None:
    def files(samples: int) -> list[bytes]:
        folder = export(samples=samples, seed=3).package_dir
        names = [package.VALIDATION, package.VALIDATION_INPUTS]
        found = [(folder / name).read_bytes() for name in names if (folder / name).exists()]
        folder.rename(tmp_path / f"moved{len(list(tmp_path.iterdir()))}")
        return found

    first = files(100)
    assert files(100) == first
    assert json.loads(first[0])["samples"] == 100
    assert files(101) != first


def test_a_format_that_does_not_run_here_is_not_judged(export: Callable[..., ExportResult]) -> None:
    result = export("coreml", metrics=["accuracy"])
    assert result.verdict == "converted_not_executed"
    assert result.validation is not None
    assert result.validation["passed"] is None
    assert result.validation["accuracy"] is None
    assert result.validation["original_accuracy"] > 0.9
    assert result.validation["reason"]


@pytest.fixture
def near_classes(tmp_path: Path) -> tuple[Path, Path]:
    """A network whose classes differ in a weight that float16 cannot tell apart: 1000 and 1000.1."""
    network = nn.Linear(1, 2, bias=False)
    network.weight = nn.Parameter(torch.tensor([[1000.0], [1000.1]]))
    program = torch.export.export(network.eval(), (torch.zeros(2, 1),), dynamic_shapes=({0: Dim("batch")},))
    torch.export.save(program, tmp_path / "near.pt2")
    x = np.random.default_rng(0).uniform(-1, 1, (200, 1)).astype(np.float32)
    np.savez(tmp_path / "signs.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    return tmp_path / "near.pt2", tmp_path / "signs.npz"


def test_a_threshold_stops_an_export_that_the_comparison_accepts(
    near_classes: tuple[Path, Path], tmp_path: Path
) -> None:
    """In float16 its outputs are within the tolerance, and each row is of one class."""
    model, data = near_classes
    asked = Validation(DatasetFile(data, "npz"), ["accuracy"], {"accuracy_drop_max": 0.02})
    request = ExportRequest(model, tmp_path / "out", "openvino", {"precision": "FP16"}, validation=asked)

    with pytest.raises(ValidationFailed) as caught:
        run(request)
    assert caught.value.code == "validation_failed"
    summary = caught.value.details["validation"]
    assert summary["original_accuracy"] == 1
    assert summary["accuracy_drop"] > 0.3
    assert "accuracy is 0." in caught.value.message
    assert "above 0.02" in caught.value.message

    folder = Path(caught.value.details["package_dir"])
    package.verify(folder)
    document = json.loads((folder / package.VALIDATION).read_text())
    assert (document["passed"], document["fail_threshold"]) == (False, {"accuracy_drop_max": 0.02})
    low, high = document["metrics"]["accuracy"]["interval"]
    assert 0 < low < summary["accuracy_drop"] < high
    changed = document["changed"]
    assert len(changed) == 10
    assert changed[0]["original"]["class_id"] != changed[0]["artefact"]["class_id"]
    with np.load(folder / package.VALIDATION_INPUTS) as kept, np.load(data) as given:
        rows = [entry["index"] for entry in changed]
        np.testing.assert_array_equal(kept["input:input"], given["x"][rows])
        assert changed[0]["input"] == {"input": given["x"][rows[0]].tolist()}

    allowed = replace(asked, fail_threshold={"accuracy_drop_max": 0.9})
    result = run(replace(request, output_dir=tmp_path / "again", validation=allowed))
    assert result.validation is not None
    assert result.validation["passed"] is True


def test_a_dataset_that_does_not_fit_fails_before_the_conversion(
    digits: tuple[Path, Path, float], tmp_path: Path
) -> None:
    np.savez(tmp_path / "wrong.npz", x=np.zeros((5, 63), np.float32), y=np.arange(5))
    asked = Validation(DatasetFile(tmp_path / "wrong.npz", "npz"))
    seen: list[str] = []
    with pytest.raises(InvalidDataset, match=r"\[rows, 63\]"):
        run(
            ExportRequest(digits[0], tmp_path / "out", "onnx", validation=asked),
            lambda step, *_: seen.append(step),
        )
    assert "convert" not in seen
    assert not (tmp_path / "out").exists()


def test_a_metric_of_another_task_is_refused(export: Callable[..., ExportResult]) -> None:
    with pytest.raises(UnsupportedOption, match="no metric of a classification"):
        export(metrics=["mse"])
    with pytest.raises(UnsupportedOption, match=r"validation.fail_threshold"):
        export(metrics=["f1"], fail_threshold={"accuracy_drop_max": 0.1})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"validation": 3}, "object"),
        ({"validation": {"dataset": {"format": "npz"}}}, "validation.dataset.path"),
        ({"validation": {"dataset": {"path": "a", "format": "exe"}}}, "cannot be loaded"),
        ({"validation": {"dataset": {"path": "a", "format": "npz"}, "samples": 0}}, "validation.samples"),
        ({"validation": {"dataset": {"path": "a", "format": "npz"}, "seed": -1}}, "validation.seed"),
        ({"validation": {"dataset": {"path": "a", "format": "npz"}, "metrics": ["auc"]}}, "auc"),
        ({"validation": {"dataset": {"path": "a", "format": "npz"}, "enabled": True}}, "validation must be"),
    ],
)
def test_an_invalid_request_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedOption, match=words):
        ExportRequest.from_json({"source": "a", "output_dir": "b", "format": "onnx", **given})


def results_of(
    task: str,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any] | None,
    source: Callable[[Arrays], Arrays],
    artefact: Callable[[Arrays], Arrays],
    path: Path,
    **options: Any,
) -> validation.Results:
    np.savez(path, **{"x": x} if y is None else {"x": x, "y": y})
    spec = TensorSpec("x", str(x.dtype), ("batch", *x.shape[1:]))
    dataset = open_dataset(DatasetFile(path, "npz", {"task": task}), [spec])
    return validation.validate(
        source, artefact, dataset, decoder(task, ModelFacts()), options.pop("names"), **options
    )


def test_the_interval_of_a_drop_is_that_of_paired_rows(tmp_path: Path) -> None:
    """Both models miss the same hard rows; only 2 of 100 differ, which separate intervals would hide."""
    random = np.random.default_rng(0)
    x = random.standard_normal((1000, 3)).astype(np.float32)
    y = x.argmax(axis=1)
    hard = np.arange(1000) % 3 == 0

    def source(inputs: Arrays) -> Arrays:
        rows = np.flatnonzero((x[:, None] == inputs["x"]).all(-1).any(1))
        return {"scores": np.where(hard[rows][:, None], inputs["x"][:, [1, 2, 0]], inputs["x"])}

    def artefact(inputs: Arrays) -> Arrays:
        rows = np.flatnonzero((x[:, None] == inputs["x"]).all(-1).any(1))
        scores = source(inputs)["scores"].copy()
        scores[rows % 50 == 1] = 0
        return {"scores": scores}

    results = results_of(
        "classification", x, y, source, artefact, tmp_path / "x.npz", names=["accuracy"], seed=5
    )
    one = results.document["metrics"]["accuracy"]
    assert one["original"] - one["artefact"] == pytest.approx(one["drop"])
    low, high = one["interval"]
    assert 0 < low < one["drop"] < high < 0.03  # a lone accuracy of 0.67 has an interval of 0.06
    assert (results.document["seed"], results.document["resamples"]) == (5, 1000)


def test_an_error_drops_by_its_relative_increase(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((200, 4)).astype(np.float32)
    results = results_of(
        "regression",
        x,
        x.sum(axis=1, dtype=np.float64),
        lambda inputs: {"sum": inputs["x"].sum(1) + np.float32(0.1)},
        lambda inputs: {"sum": inputs["x"].sum(1) + np.float32(0.2)},
        tmp_path / "x.npz",
        names=["mse", "mae", "r2"],
        fail_threshold={"mae": 0.5},
    )
    document = results.document
    assert document["metrics"]["mae"]["drop"] == pytest.approx(1, abs=1e-4)
    assert document["metrics"]["mse"]["drop"] == pytest.approx(3, abs=1e-3)
    assert 0 < document["metrics"]["r2"]["drop"] < 0.1
    assert document["passed"] is False
    assert "mae is 0.2 instead of 0.1" in document["reason"]
    assert document["confusion"] is None


def test_a_reconstruction_is_judged_by_its_inputs(tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((50, 2, 3)).astype(np.float32)
    results = results_of(
        "reconstruction",
        x,
        None,
        lambda inputs: {"again": inputs["x"]},
        lambda inputs: {"again": inputs["x"] + np.float32(0.5)},
        tmp_path / "x.npz",
        names=["mse"],
    )
    assert results.document["metrics"]["mse"] == {
        "original": 0,
        "artefact": pytest.approx(0.25, abs=1e-6),
        "drop": pytest.approx(0.25, abs=1e-6),
        "interval": pytest.approx([0.25, 0.25], abs=1e-6),
    }


def test_masks_are_judged_by_their_iou(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((20, 3, 8, 8)).astype(np.float32)
    worse = random.standard_normal(x.shape).astype(np.float32)
    results = results_of(
        "segmentation",
        x,
        x.argmax(axis=1),
        lambda inputs: {"scores": inputs["x"]},
        lambda inputs: {"scores": inputs["x"] + worse[: len(inputs["x"])]},
        tmp_path / "x.npz",
        names=["iou"],
    )
    assert results.document["metrics"]["iou"]["original"] == 1
    assert 0.2 < results.document["metrics"]["iou"]["artefact"] < 0.9


def test_one_score_is_two_classes(tmp_path: Path) -> None:
    x = np.random.default_rng(4).standard_normal((60, 1)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    for scores in (lambda x: x, lambda x: 1 / (1 + np.exp(-x)), lambda x: x[:, 0]):
        results = results_of(
            "classification",
            x,
            y,
            lambda inputs, scores=scores: {"score": scores(inputs["x"])},  # type: ignore[misc]
            lambda inputs, scores=scores: {"score": scores(-inputs["x"])},  # type: ignore[misc]
            tmp_path / "x.npz",
            names=["accuracy"],
        )
        assert results.document["metrics"]["accuracy"]["original"] == 1
        assert results.document["metrics"]["accuracy"]["artefact"] == 0


def test_a_model_that_fails_on_the_rows_is_told_apart(tmp_path: Path) -> None:
    x = np.zeros((4, 2), np.float32)
    y = np.arange(4) % 2

    def fails(inputs: Arrays) -> Arrays:
        raise RuntimeError("index out of range")

    def works(inputs: Arrays) -> Arrays:
        return {"scores": inputs["x"]}

    def results(source: Any, artefact: Any) -> None:
        results_of("classification", x, y, source, artefact, tmp_path / "x.npz", names=["accuracy"])

    with pytest.raises(InvalidDataset, match="does not accept the rows from 0 on: index out of range"):
        results(fails, works)
    with pytest.raises(ConversionFailed, match="artefact fails on the rows from 0"):
        results(works, fails)
    with pytest.raises(InvalidDataset, match="No output of the model is scores of classes"):
        results(lambda inputs: {"image": np.zeros((4, 3, 2, 2), np.float32)}, works)


def test_outputs_of_the_artefact_that_cannot_be_judged_are_no_fault_of_the_dataset(tmp_path: Path) -> None:
    x = np.random.default_rng(6).standard_normal((20, 4)).astype(np.float32)

    def sums(inputs: Arrays) -> Arrays:
        return {"sum": inputs["x"].sum(1)}

    def nothing(inputs: Arrays) -> Arrays:
        return {"sum": np.full(len(inputs["x"]), np.nan, np.float32)}

    def scores(inputs: Arrays) -> Arrays:
        return {"scores": inputs["x"]}

    def classes(inputs: Arrays) -> Arrays:
        return {"class": inputs["x"].argmax(1)}

    def results(source: Any, artefact: Any, name: str) -> None:
        task, y = ("regression", x.sum(1)) if name == "mse" else ("classification", x.argmax(1))
        results_of(task, x, y, source, artefact, tmp_path / "x.npz", names=[name])

    with pytest.raises(ConversionFailed, match=r"artefact's outputs .* NaN or infinity"):
        results(sums, nothing, "mse")
    with pytest.raises(ConversionFailed, match=r"artefact's outputs .* No output of the model is numbers"):
        results(sums, classes, "mse")
    with pytest.raises(ConversionFailed, match=r"artefact's outputs .* the shape \[20\], not \[20, 4\]"):
        results(scores, classes, "accuracy")
    with pytest.raises(InvalidDataset, match="NaN or infinity"):
        results(nothing, nothing, "mse")


def test_a_model_that_writes_to_its_inputs_does_not_change_those_of_the_other(tmp_path: Path) -> None:
    x = np.random.default_rng(5).standard_normal((30, 2)).astype(np.float32)

    def writes(inputs: Arrays) -> Arrays:
        scores = inputs["x"]
        scores *= -1
        return {"scores": scores}

    results = results_of(
        "classification", x, x.argmin(axis=1), writes, writes, tmp_path / "x.npz", names=["accuracy"]
    )
    one = results.document["metrics"]["accuracy"]
    assert (one["original"], one["artefact"]) == (1, 1)
    assert results.document["changed"] == []
