"""A model and its export on a dataset, by the command that a worker runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporters import evaluation, package
from exporters.convert import run
from exporters.datasets import DatasetFile
from exporters.errors import InvalidDataset, PackageCorrupt, UnsupportedOption
from exporters.evaluation import EvaluationRequest
from exporters.request import ExportRequest

from .conftest import events


def test_a_model_and_its_package_have_the_same_metrics(
    digits: tuple[Path, Path, float],
    exporters_cli: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # as a worker does
    model, data, accuracy = digits
    exported = run(ExportRequest(model, tmp_path / "package", "onnx", model={"task_type": "classification"}))
    package.pack(exported.package_dir, tmp_path / "package.zip")
    copied = tmp_path / "digits.npz"
    copied.write_bytes(data.read_bytes())
    (tmp_path / "model.pt2").write_bytes(model.read_bytes())
    dataset = DatasetFile(copied, "npz", name="digits", version="v1.0").to_json()

    results = {}
    for name, file in (("source", "model.pt2"), ("package", "package.zip")):
        request = {"source": None, "package": None, "dataset": dataset, "metrics": None, "samples": None}
        request = {**request, name: str(tmp_path / file), "options": {}, "model": {}, "seed": 4}
        sandbox = ("--isolate-network", "--confine", tmp_path)
        done = exporters_cli("evaluate", "-", *sandbox, stdin=json.dumps(request) + "\n")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = events(done.stdout)
        assert lines[0]["event"] == "ready"
        assert lines[1]["message"] == "Loading the model"
        assert "Evaluating: 450 of 450 rows" in [line.get("message") for line in lines]
        results[name] = lines[-1]["result"]

    for found in results.values():
        assert found["metrics"]["accuracy"]["value"] == pytest.approx(accuracy)
        low, high = found["metrics"]["accuracy"]["interval"]
        assert low < accuracy < high
        assert (found["samples"], found["seed"], found["dataset"]["task"]) == (450, 4, "classification")
        assert np.trace(found["confusion"]) == round(450 * accuracy)
        assert 0 < found["performance"]["p50_ms"] <= found["performance"]["p99_ms"]
        assert "torch" in found["code_versions"]
    assert results["source"]["metrics"] == results["package"]["metrics"]
    assert 10e6 < results["package"]["performance"]["peak_memory_bytes"] < 1e9
    # Nothing is left in the folder of the package
    left = {path.name for path in tmp_path.glob("[!.]*")}
    assert left == {"digits.npz", "model.pt2", "package", "package.zip"}


def test_a_request_names_a_source_or_a_package(tmp_path: Path) -> None:
    dataset = {"path": "a", "format": "npz"}
    for wrong, words in (
        ({"dataset": dataset}, "either 'source' or 'package'"),
        ({"dataset": dataset, "source": "a", "package": "b"}, "either 'source' or 'package'"),
        ({"source": "a"}, "dataset must be"),
        ({"source": "a", "dataset": dataset, "metrics": ["auc"]}, "auc"),
        ({"source": "a", "dataset": dataset, "samples": 0}, "evaluation.samples"),
        ({"source": "a", "dataset": dataset, "format": "onnx"}, "unknown field 'format'"),
    ):
        with pytest.raises(UnsupportedOption, match=words):
            EvaluationRequest.from_json(wrong)


def test_a_package_that_is_missing_or_does_not_run_here_is_told(
    digits: tuple[Path, Path, float], tmp_path: Path
) -> None:
    model, data, _ = digits
    file = DatasetFile(data, "npz")
    with pytest.raises(PackageCorrupt, match="no package"):
        evaluation.run(EvaluationRequest(file, package=tmp_path / "absent.zip"))
    exported = run(ExportRequest(model, tmp_path / "package", "coreml"))
    with pytest.raises(UnsupportedOption, match="cannot run here"):
        evaluation.run(EvaluationRequest(file, package=exported.package_dir))


def test_the_classes_of_the_model_and_of_the_dataset_must_agree(
    digits: tuple[Path, Path, float], tmp_path: Path
) -> None:
    with np.load(digits[1]) as archive:
        np.savez(tmp_path / "more.npz", x=archive["x"], y=archive["y"] + 1)
    with pytest.raises(InvalidDataset, match="class 10, but the model has 10 classes"):
        evaluation.run(EvaluationRequest(DatasetFile(tmp_path / "more.npz", "npz"), source=digits[0]))
