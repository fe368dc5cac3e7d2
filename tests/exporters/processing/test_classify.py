import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporters.convert import run
from exporters.errors import UnsupportedOption
from exporters.processing.classify import top_k
from exporters.request import ExportRequest

LOGITS = np.array([[0.0, 2.0, 1.0], [5.0, 5.0, 0.0]], np.float32)


def test_the_best_classes_come_first_with_their_probabilities() -> None:
    first = top_k(LOGITS, ["a", "b", "c"], k=2, softmax=True)[0]

    assert [(entry["class_id"], entry["class"]) for entry in first] == [(1, "b"), (2, "c")]
    total = np.exp([0.0, 2.0, 1.0]).sum()
    assert [entry["confidence"] for entry in first] == pytest.approx([np.e**2 / total, np.e / total])


def test_scores_are_passed_on_when_the_model_did_the_softmax() -> None:
    assert top_k(LOGITS, None, k=1, softmax=False)[0] == [{"class_id": 1, "class": "1", "confidence": 2.0}]


def test_a_tie_goes_to_the_lower_id() -> None:
    assert [entry["class_id"] for entry in top_k(LOGITS, None, k=2)[1]] == [0, 1]


def test_large_logits_do_not_overflow() -> None:
    assert top_k(np.array([[1e4, 0.0]], np.float32), None, k=1)[0][0]["confidence"] == 1.0


def test_labels_have_to_match_the_scores() -> None:
    with pytest.raises(ValueError, match="scores 3 classes, but 2 class names are declared"):
        top_k(LOGITS, ["a", "b"])


def test_the_generated_wrapper_classifies_the_same_way(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    labels = ["low", "middle", "high"]
    declared = {"softmax": True, "top_k": 2}
    run(
        ExportRequest(
            checkpoint("mlp-pt2"), tmp_path / "out", "onnx", classes=labels, postprocessing=declared
        )
    )
    spec = importlib.util.spec_from_file_location(
        "wrapper", tmp_path / "out/runtimes/python/model_wrapper.py"
    )
    assert spec is not None
    assert spec.loader is not None
    wrapper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(wrapper)
    model = wrapper.ModelWrapper(tmp_path / "out")
    inputs = {"x": np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)}

    outputs = model.run(inputs)
    assert model.postprocess(outputs) == top_k(outputs["output"], labels, k=2, softmax=True)
    assert json.loads((tmp_path / "out/metadata.json").read_bytes())["classes"][2] == {
        "id": 2,
        "name": "high",
    }


def test_labels_that_do_not_fit_the_model_are_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOption, match="2 class names are declared, but 'output' has the shape"):
        run(ExportRequest(checkpoint("mlp-pt2"), tmp_path / "out", "onnx", classes=["a", "b"]))
