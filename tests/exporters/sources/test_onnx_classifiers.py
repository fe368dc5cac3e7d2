"""ONNX files as skl2onnx and onnxmltools write them: ZipMap, labels of text, ai.onnx.ml alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxmltools
import onnxruntime
import pytest
import skl2onnx
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier, XGBRegressor

from exporters.convert import run
from exporters.errors import ConversionFailed, InvalidSource
from exporters.request import ExportRequest

_RANDOM = np.random.default_rng(0)
COUNTS = _RANDOM.integers(0, 20, (2000, 6)).astype(float)
MANY = (COUNTS[:, 0] * COUNTS[:, 1] > 90).astype(int)
ROWS = COUNTS[:200].astype(np.float32)
INPUTS = [("x", FloatTensorType([None, 6]))]


def verified(model: onnx.ModelProto, folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The answers to ROWS of the artefact, in plain onnxruntime."""
    onnx.save(model, folder / "source.onnx")
    result = run(ExportRequest(folder / "source.onnx", folder / "package", "onnx"))
    assert result.verdict == "verified"
    session = onnxruntime.InferenceSession(folder / "package/model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    name = session.get_inputs()[0].name
    dtype = np.float64 if "double" in session.get_inputs()[0].type else np.float32
    return dict(zip(names, session.run(names, {name: ROWS.astype(dtype)}), strict=True))


def classes(folder: Path) -> list[str]:
    return [entry["name"] for entry in json.loads((folder / "package/metadata.json").read_bytes())["classes"]]


@pytest.mark.parametrize("names", [None, ["few", "many"]], ids=["numbers", "text"])
def test_the_dictionaries_of_a_zipmap_become_a_tensor(names: list[str] | None, tmp_path: Path) -> None:
    labels = np.array(names)[MANY] if names else MANY + 3
    forest = RandomForestClassifier(5, random_state=0).fit(COUNTS, labels)

    answer = verified(skl2onnx.to_onnx(forest, ROWS[:1]), tmp_path)

    assert list(answer) == ["output_probability", "output_label"]
    np.testing.assert_allclose(answer["output_probability"], forest.predict_proba(ROWS), atol=1e-6)
    predicted = forest.predict(ROWS)
    places = np.searchsorted(forest.classes_, predicted) if names else predicted
    np.testing.assert_array_equal(answer["output_label"], places)
    assert classes(tmp_path) == (names or ["3", "4"])


def test_a_zipmap_of_float64_which_onnxruntime_does_not_run(tmp_path: Path) -> None:
    regression = LogisticRegression().fit(COUNTS, MANY)

    answer = verified(skl2onnx.to_onnx(regression, COUNTS[:1]), tmp_path)

    np.testing.assert_allclose(answer["output_probability"], regression.predict_proba(ROWS), atol=1e-6)


def test_a_model_of_machine_learning_operators_alone(tmp_path: Path) -> None:
    regressor = XGBRegressor(n_estimators=3).fit(COUNTS, COUNTS[:, 0] * 2)

    answer = verified(onnxmltools.convert_xgboost(regressor, initial_types=INPUTS), tmp_path)

    np.testing.assert_allclose(answer["variable"][:, 0], regressor.predict(ROWS), rtol=1e-6)


def test_a_classifier_without_a_zipmap_keeps_its_outputs(tmp_path: Path) -> None:
    booster = XGBClassifier(n_estimators=3).fit(COUNTS, MANY)

    answer = verified(onnxmltools.convert_xgboost(booster, initial_types=INPUTS), tmp_path)

    assert list(answer) == ["label", "probabilities"]
    np.testing.assert_allclose(answer["probabilities"], booster.predict_proba(ROWS), atol=1e-6)


def test_openvino_names_the_operator_that_it_lacks(tmp_path: Path) -> None:
    regressor = XGBRegressor(n_estimators=3).fit(COUNTS, COUNTS[:, 0])
    onnx.save(onnxmltools.convert_xgboost(regressor, initial_types=INPUTS), tmp_path / "source.onnx")

    with pytest.raises(
        ConversionFailed, match=r"OpenVINO has no operator for .*TreeEnsembleRegressor.*Export onnx"
    ):
        run(ExportRequest(tmp_path / "source.onnx", tmp_path / "package", "openvino"))


def test_an_output_that_is_no_tensor_is_refused_by_its_name(tmp_path: Path) -> None:
    graph = onnx.parser.parse_graph(
        "g (float[2] x) => (seq(float[2]) parts) { parts = SequenceConstruct (x) }"
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "source.onnx")

    with pytest.raises(InvalidSource, match="'parts' of the ONNX model is a sequence"):
        run(ExportRequest(tmp_path / "source.onnx", tmp_path / "package", "onnx"))
