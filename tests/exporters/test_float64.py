"""The option ``float64``: an estimator's ONNX that takes float64, as the estimator does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import numpy.typing as npt
import polars
import pytest
import torch
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from exporters import runners
from exporters.convert import run
from exporters.errors import ExportError, UnsupportedOption
from exporters.processing.pipeline import Pipeline
from exporters.proof import golden
from exporters.request import ExportRequest, ExportResult
from exporters.sources.trees import fitted_trees

_RANDOM = np.random.default_rng(0)
ROWS = _RANDOM.normal(size=(300, 3))
WANTED = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.5).astype(int)


def export(estimator: Any, folder: Path, **request: Any) -> ExportResult:
    joblib.dump(estimator, folder / "model.joblib")
    return run(
        ExportRequest(folder / "model.joblib", folder / "package", "onnx", {"float64": True}, **request)
    )


def verified(estimator: Any, folder: Path) -> runners.Runner:
    assert export(estimator, folder).verdict == "verified"
    return runners.load(folder / "package")


def answers(runner: runners.Runner, rows: npt.ArrayLike) -> dict[str, npt.NDArray[Any]]:
    return runner.predict({"input": np.asarray(rows, np.float64)})


def test_small_differences_between_large_numbers_are_kept(tmp_path: Path) -> None:
    rows = 1e9 + ROWS
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, WANTED)
    expected = model.predict_proba(rows)

    runner = verified(model, tmp_path)

    assert [spec.dtype for spec in runner.inputs] == ["float64"]
    assert [spec.dtype for spec in runner.outputs] == ["float64", "int64"]
    answer = answers(runner, rows)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-9)
    assert (answer["label"] == model.predict(rows)).all()
    # In float32 nothing is left of the differences.
    rounded = answers(runner, rows.astype(np.float32))["probabilities"]
    assert np.abs(rounded - expected).max() > 0.3
    typical = golden.read(tmp_path / "package/golden.npz").inputs["input"]
    assert typical.dtype == np.float64
    assert (typical != typical.astype(np.float32)).all()


def boosted(model: Any) -> Any:
    """Fitted on values that lie between two float32, so that a split does too."""
    rows = np.repeat(1e9 + np.arange(8), 40)[:, None]
    return model.fit(rows, (rows[:, 0] % 3 > 1).astype(int)), rows


OF_FLOAT64 = {
    "histogram": lambda: HistGradientBoostingRegressor(max_iter=8),
    "histogram of classes": lambda: HistGradientBoostingClassifier(max_iter=8),
    "lightgbm": lambda: lightgbm.LGBMRegressor(n_estimators=8, verbose=-1),
    "lightgbm of classes": lambda: lightgbm.LGBMClassifier(n_estimators=8, verbose=-1),
}


@pytest.mark.parametrize("name", OF_FLOAT64)
def test_trees_of_float64_split_between_neighbours(name: str, tmp_path: Path) -> None:
    model, rows = boosted(OF_FLOAT64[name]())
    tree = fitted_trees(model)[0]
    thresholds = tree.threshold[tree.feature == 0]
    asked = np.array([(np.nextafter(one, 0), one, np.nextafter(one, np.inf)) for one in thresholds])
    assert (asked.astype(np.float32) == asked[0, 0].astype(np.float32)).all()
    ask = model.predict_proba if hasattr(model, "classes_") else model.predict

    runner = verified(model, tmp_path)

    answer = next(iter(answers(runner, asked.reshape(-1, 1)).values()))
    expected = ask(asked.reshape(-1, 1)).reshape(answer.shape)
    np.testing.assert_allclose(answer, expected, rtol=1e-6)
    assert (expected[1::3] != expected[2::3]).any()
    assert runner.outputs[0].dtype == "float32"
    fidelity = json.loads((tmp_path / "package/fidelity.json").read_bytes())
    assert fidelity["probes"]["boundary"]["passed"]
    np.testing.assert_allclose(next(iter(answers(runner, rows).values())), ask(rows).reshape(320, -1), 1e-6)


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(5, random_state=0),
        GradientBoostingRegressor(n_estimators=5, random_state=0),
        xgboost.XGBClassifier(n_estimators=5),
        xgboost.XGBRegressor(n_estimators=3, booster="gblinear"),
    ],
    ids=["forest", "boosting", "xgboost", "linear xgboost"],
)
def test_what_casts_to_float32_itself_is_cast_likewise(model: Any, tmp_path: Path) -> None:
    """A float64 row on one side of a threshold may be a float32 row on its other side."""
    rows = np.round(ROWS, 1)
    model.fit(rows, WANTED)
    near = np.concatenate([np.nextafter(rows, -np.inf), rows, np.nextafter(rows, np.inf), rows + 3e-9])
    ask = getattr(model, "predict_proba", model.predict)

    answer = next(iter(answers(verified(model, tmp_path), near).values()))

    np.testing.assert_allclose(answer, ask(near).reshape(answer.shape), rtol=1e-5, atol=1e-6)


def test_a_scaler_in_float64_before_xgboost(tmp_path: Path) -> None:
    rows = 1e9 + np.round(ROWS, 2)
    model = make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=5)).fit(rows, WANTED)

    answer = answers(verified(model, tmp_path), rows)

    np.testing.assert_allclose(answer["probabilities"], model.predict_proba(rows), atol=1e-5)


def test_a_data_frame_of_mixed_columns(tmp_path: Path) -> None:
    frame = polars.DataFrame(
        {
            "at": 1.7e9 + ROWS[:, 0] * 30,
            "city": _RANDOM.choice(["Lyon", "Nice", "Paris"], len(ROWS)),
            "income": np.where(_RANDOM.random(len(ROWS)) < 0.1, np.nan, ROWS[:, 1] * 1e4),
            "kind": _RANDOM.integers(0, 4, len(ROWS)),
        }
    )
    columns = ColumnTransformer(
        [
            ("time", StandardScaler(), ["at"]),
            ("income", make_pipeline(SimpleImputer(), StandardScaler()), ["income"]),
            ("city", OneHotEncoder(handle_unknown="ignore"), ["city", "kind"]),
        ]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame, WANTED)
    export(model, tmp_path)
    frame.head(20).write_csv(tmp_path / "rows.csv")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from model_wrapper import ModelWrapper;"
        "print(ModelWrapper().predict_table(open(sys.argv[2]).read())['probabilities'].tolist())"
    )

    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-c",
            code,
            str(tmp_path / "package/runtimes/python"),
            str(tmp_path / "rows.csv"),
        ],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), model.predict_proba(frame.head(20)), rtol=1e-9)


def test_texts_are_counted_and_weighed_in_float64(tmp_path: Path) -> None:
    texts = ["good day sun", "bad rain day", "sun good good", "rain bad cold"] * 5
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 5)
    runner = verified(model, tmp_path)
    metadata = json.loads((tmp_path / "package/metadata.json").read_bytes())
    asked = ["good sun", "cold rain unknown", ""]

    inputs, _ = Pipeline(metadata, tmp_path / "package").prepare(asked)

    answer = runner.predict(inputs)["probabilities"]
    np.testing.assert_allclose(answer, model.predict_proba(asked), rtol=1e-12)


def test_sample_inputs_are_float64_too(tmp_path: Path) -> None:
    rows = 1e9 + ROWS
    model = make_pipeline(StandardScaler(), Ridge()).fit(rows, ROWS[:, 0])
    np.savez(tmp_path / "samples.npz", input=rows[:5])

    result = export(model, tmp_path, sample_inputs=tmp_path / "samples.npz")

    assert result.fidelity["probes"]["samples"]["passed"]


@pytest.mark.parametrize(("model", "operator"), [(SVR(), "SVMRegressor"), (SVC(), "SVMClassifier")])
def test_what_the_runtime_computes_in_float32_alone_is_refused(
    model: Any, operator: str, tmp_path: Path
) -> None:
    joblib.dump(model.fit(ROWS, WANTED), tmp_path / "model.joblib")

    with pytest.raises(ExportError) as caught:
        run(ExportRequest(tmp_path / "model.joblib", tmp_path / "package", "onnx", {"float64": True}))

    assert operator in caught.value.message
    assert "Export without float64, or export pickle" in caught.value.message


def test_a_threshold_of_float64(tmp_path: Path) -> None:
    """onnxruntime's Binarizer compares float32 alone."""
    between = 1e9 + 0.25
    model = Binarizer(threshold=between).fit(ROWS)
    asked = np.array([[np.nextafter(between, 0), between, np.nextafter(between, np.inf)]])

    assert answers(verified(model, tmp_path), asked)["variable"].tolist() == [[0.0, 0.0, 1.0]]


def test_a_network_has_the_dtypes_that_it_was_saved_with(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.randn(2, 2),))
    torch.export.save(program, tmp_path / "model.pt2")

    with pytest.raises(UnsupportedOption, match="for estimators of scikit-learn, XGBoost and LightGBM"):
        run(ExportRequest(tmp_path / "model.pt2", tmp_path / "package", "onnx", {"float64": True}))
