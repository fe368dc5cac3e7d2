"""Estimators to ONNX, and to a file that stays an estimator: compared, reproducible, never wrongly good."""

import json
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from exporters import package, runners
from exporters.convert import run
from exporters.errors import ConversionFailed, UnsupportedOption, VerificationFailed
from exporters.proof import golden
from exporters.request import ExportRequest
from exporters.sources.estimators import as_source

from ..reproducible import contents

IRIS, DIGITS, DIABETES = load_iris(), load_digits(), load_diabetes()
SPECIES = IRIS.target_names[IRIS.target]


def _pixels(estimator: Any) -> Any:
    return estimator.fit(DIGITS.data[:300], DIGITS.target[:300])


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "pipeline, text labels": lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(
        IRIS.data, SPECIES
    ),
    "digits, forest": lambda: _pixels(RandomForestClassifier(10, random_state=0)),
    "digits, scaled forest": lambda: _pixels(
        make_pipeline(StandardScaler(), PCA(8, random_state=0), RandomForestClassifier(5, random_state=0))
    ),
    "digits, MLP": lambda: _pixels(MLPClassifier((16,), max_iter=30, random_state=0)),
    "boosting": lambda: GradientBoostingClassifier(n_estimators=5, random_state=0).fit(
        IRIS.data, IRIS.target
    ),
    "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=5).fit(IRIS.data, IRIS.target),
    "SVC": lambda: SVC().fit(IRIS.data, IRIS.target),
    "two classes, no probabilities": lambda: LinearSVC(random_state=0).fit(IRIS.data, IRIS.target == 1),
    "KNN": lambda: KNeighborsClassifier().fit(IRIS.data, IRIS.target),
    "vote": lambda: VotingClassifier(
        [("linear", LogisticRegression(max_iter=500)), ("bayes", GaussianNB())], voting="soft"
    ).fit(IRIS.data, IRIS.target),
    "k-means": lambda: KMeans(3, n_init=1, random_state=0).fit(IRIS.data),
    "outliers": lambda: IsolationForest(n_estimators=5, random_state=0).fit(IRIS.data),
    "PCA": lambda: PCA(2).fit(IRIS.data),
    "linear": lambda: LinearRegression().fit(DIABETES.data, DIABETES.target),
    "two targets": lambda: LinearRegression().fit(IRIS.data[:, :2], IRIS.data[:, 2:]),
    "regression forest": lambda: RandomForestRegressor(5, random_state=0).fit(DIABETES.data, DIABETES.target),
    "histogram regression": lambda: HistGradientBoostingRegressor(max_iter=5).fit(
        DIABETES.data, DIABETES.target
    ),
    "xgboost": lambda: xgboost.XGBClassifier(n_estimators=5).fit(DIGITS.data[:300], DIGITS.target[:300]),
    "xgboost regression": lambda: xgboost.XGBRegressor(n_estimators=5).fit(DIABETES.data, DIABETES.target),
    "lightgbm, text labels": lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(
        IRIS.data, SPECIES
    ),
    "lightgbm regression": lambda: lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(
        DIABETES.data, DIABETES.target
    ),
}


def _save(estimator: Any, folder: Path) -> Path:
    path = folder / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    return path


@pytest.mark.parametrize("format_name", ["onnx", "pickle"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_it_is_verified_and_answers_what_the_estimator_does(
    name: str, format_name: str, tmp_path: Path
) -> None:
    estimator = ESTIMATORS[name]()
    rows = np.random.default_rng(1).normal(3, 3, (20, estimator.n_features_in_)).astype(np.float32)

    result = run(ExportRequest(_save(estimator, tmp_path), tmp_path / "out", format_name))

    assert result.verdict == "verified"
    assert "typical values" in {case["case"] for case in result.fidelity["cases"]}
    runner = runners.load(result.package_dir)
    answer = runner.predict({"input": rows})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(estimator, "predict_proba"):
            expected = estimator.predict_proba(rows.astype(float))
            np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-3, atol=1e-4)
        elif hasattr(estimator, "predict"):
            expected = np.asarray(estimator.predict(rows.astype(float)))
            ours = answer["label"] if "label" in answer else answer["variable"].reshape(expected.shape)
            np.testing.assert_allclose(ours, expected, rtol=1e-3)
        else:
            np.testing.assert_allclose(answer["variable"], estimator.transform(rows), rtol=1e-3, atol=1e-4)
    package.verify(result.package_dir)
    assert golden.replay(result.package_dir, runner) == []


def test_the_names_of_text_labels_are_in_the_package(tmp_path: Path) -> None:
    path = _save(ESTIMATORS["pipeline, text labels"](), tmp_path)

    run(ExportRequest(path, tmp_path / "out", "onnx"))

    classes = json.loads((tmp_path / "out/metadata.json").read_bytes())["classes"]
    assert [entry["name"] for entry in classes] == ["setosa", "versicolor", "virginica"]
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    assert [(one.name, one.type, one.shape) for one in session.get_outputs()] == [
        ("probabilities", "tensor(float)", ["batch", 3]),
        ("label", "tensor(int64)", ["batch"]),
    ]


def test_a_row_on_the_edge_of_a_branch_is_computed_in_float64(tmp_path: Path) -> None:
    """Scaled in float32, values beside a threshold fall on its other side."""
    random = np.random.default_rng(0)
    data = random.normal(1e6, 1, (300, 2))
    estimator = make_pipeline(StandardScaler(), RandomForestRegressor(5, random_state=0)).fit(
        data, data[:, 0] - 1e6
    )

    result = run(ExportRequest(_save(estimator, tmp_path), tmp_path / "out", "onnx"))

    assert (result.verdict, result.converter) == ("verified", "float64")
    assert [entry["converter"] for entry in result.fidelity["converters_tried"]] == ["float64"]


@pytest.mark.parametrize("forest", [RandomForestClassifier, ExtraTreesClassifier])
def test_votes_that_tie_prove_a_forest_neither_right_nor_wrong(forest: type, tmp_path: Path) -> None:
    """The same votes, added in float32 and in float64, differ in the last digit: either label is right."""
    data, target = load_breast_cancer(return_X_y=True)
    estimator = forest(20, random_state=0).fit(data, target)

    result = run(ExportRequest(_save(estimator, tmp_path), tmp_path / "out", "onnx"))

    assert (result.verdict, result.converter) == ("verified", "float32")
    rows = sum(case["input_shapes"]["input"][0] for case in result.fidelity["cases"])
    assert 0 < result.fidelity["outputs"]["label"]["labels_not_judged"] < 0.3 * rows


def test_a_label_that_is_voted_for_is_judged_in_every_row() -> None:
    """The probabilities of a support vector machine are another fit."""
    data, target = load_iris(return_X_y=True)
    by_votes = SVC(probability=True, random_state=0).fit(data[:, :1], target)
    by_scores = RandomForestClassifier(5, random_state=0).fit(data, target)

    assert (as_source(by_votes).labels, list(as_source(by_scores).labels)) == ({}, ["label"])


def test_what_answers_the_same_to_everything_proves_no_label(tmp_path: Path) -> None:
    data, target = load_iris(return_X_y=True)
    undecided = RandomForestClassifier(2, bootstrap=False, random_state=0).fit(data * 0, target)

    with pytest.raises(ConversionFailed, match="the labels cannot be verified"):
        run(ExportRequest(_save(undecided, tmp_path), tmp_path / "out", "onnx"))


def test_the_golden_inputs_have_one_right_label_each(tmp_path: Path) -> None:
    """Two trees that disagree about the rows that are asked first."""
    estimator = _pixels(RandomForestClassifier(2, random_state=0))

    result = run(ExportRequest(_save(estimator, tmp_path), tmp_path / "out", "onnx"))

    assert result.fidelity["cases"][0]["outputs"]["label"]["labels_not_judged"] == 3
    scores = np.sort(golden.read(tmp_path / "out/golden.npz").expected["probabilities"])
    assert len(scores) == 3
    assert (scores[:, -1] > scores[:, -2]).all()


def test_what_comes_out_wrong_is_not_called_good(tmp_path: Path) -> None:
    """Of whole numbers many are equally near: which of them count follows from scikit-learn's search."""
    estimator = KNeighborsClassifier().fit(np.round(IRIS.data), IRIS.target)

    with pytest.raises(VerificationFailed, match="does not behave like its source: output 'probabilities'"):
        run(ExportRequest(_save(estimator, tmp_path), tmp_path / "out", "onnx"))


def test_an_estimator_without_a_converter_says_so(tmp_path: Path) -> None:
    from sklearn.neighbors import NearestCentroid

    with pytest.raises(ConversionFailed, match="NearestCentroid cannot be converted"):
        run(
            ExportRequest(
                _save(NearestCentroid().fit(IRIS.data, IRIS.target), tmp_path), tmp_path / "out", "onnx"
            )
        )


@pytest.mark.parametrize("opset", [13, 22])
def test_the_opset_is_the_one_that_was_asked_for(opset: int, tmp_path: Path) -> None:
    path = _save(ESTIMATORS["pipeline, text labels"](), tmp_path)

    result = run(ExportRequest(path, tmp_path / "out", "onnx", options={"opset_version": opset}))

    model = onnx.load(tmp_path / "out/model.onnx")
    assert result.verdict == "verified"
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset, "ai.onnx.ml": 3}


def test_an_opset_that_no_estimator_reaches_is_refused(tmp_path: Path) -> None:
    path = _save(ESTIMATORS["linear"](), tmp_path)

    with pytest.raises(UnsupportedOption, match="Use 13 to 22"):
        run(ExportRequest(path, tmp_path / "out", "onnx", options={"opset_version": 23}))


def test_a_batch_can_be_fixed(tmp_path: Path) -> None:
    path = _save(ESTIMATORS["linear"](), tmp_path)

    result = run(ExportRequest(path, tmp_path / "out", "onnx", options={"dynamic_axes": {}}))

    assert result.verdict == "verified"
    assert runners.load(result.package_dir).inputs[0].shape == (1, 10)


def test_equal_estimators_are_equal_bytes_in_another_process(tmp_path: Path) -> None:
    path = _save(ESTIMATORS["lightgbm, text labels"](), tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from exporters.request import ExportRequest; from exporters.convert import run\n"
        "for name in ('onnx', 'pickle'):\n"
        "    run(ExportRequest(Path(sys.argv[1]), Path(sys.argv[2], name), name))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, path, tmp_path / "there"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    for name in ("onnx", "pickle"):
        run(ExportRequest(path, tmp_path / "here" / name, name))
        assert contents(tmp_path / "here" / name) == contents(tmp_path / "there" / name)
