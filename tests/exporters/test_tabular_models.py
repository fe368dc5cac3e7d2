"""Everyday tabular models: each is exported, verified, and answers held-out rows as the estimator itself."""

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import skops.io
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.feature_selection import (
    RFE,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFwe,
    SelectKBest,
    SelectPercentile,
    f_classif,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeRegressor
from sklearn.utils import check_array

from exporters import sources
from exporters.convert import run
from exporters.errors import UnsafeCheckpoint
from exporters.request import ExportRequest

WINE, KINDS = load_wine(return_X_y=True)
CELLS, MALIGNANT = load_breast_cancer(return_X_y=True)
PATIENTS, PROGRESS = load_diabetes(return_X_y=True)
_RANDOM = np.random.default_rng(0)
# Two columns of categories, two of numbers.
MIXED = np.column_stack(
    [_RANDOM.integers(0, 5, 300), _RANDOM.integers(10, 19, 300), _RANDOM.normal(size=(300, 2))]
)
OUTCOMES = (MIXED[:, 0] % 2 + (MIXED[:, 2] > 0)).astype(int)


def linear() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


def answer_of(estimator: Any, rows: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """What the estimator says of float32 rows in float64."""
    wide = rows.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("predict_proba", "decision_function", "predict", "transform"):
            if hasattr(estimator, name):
                answer = getattr(estimator, name)(wide)
                answer = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
                answer = answer.reshape(len(rows), -1)
                two = name == "decision_function" and hasattr(estimator, "classes_")
                return np.hstack([-answer, answer]) if two else answer
    raise AssertionError(f"{type(estimator).__name__} answers nothing")


def check(
    estimator: Any, rows: npt.ArrayLike, folder: Path, suffix: str = "joblib", within: float = 1e-6
) -> None:
    """The ONNX export is verified, and a plain session answers the rows as the estimator does."""
    path = folder / f"model.{suffix}"
    (joblib.dump if suffix == "joblib" else skops.io.dump)(estimator, path)
    result = run(ExportRequest(path, folder / "onnx", "onnx"))
    assert result.verdict == "verified"

    given = np.asarray(rows, np.float32)
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")
    found = session.run(None, {"input": given})[0]

    expected = answer_of(estimator, given)
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=within * scale)


def held_out(rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Rows near those of the training, each with one value of another row."""
    random = np.random.default_rng(3)
    found = rows[random.integers(0, len(rows), 200)] * random.uniform(0.9, 1.1, (200, 1))
    columns = random.integers(0, rows.shape[1], 200)
    found[np.arange(200), columns] = rows[random.integers(0, len(rows), 200), columns]
    return found.astype(np.float32)


UNKNOWN = np.array([[0, 10, 0.5, 1], [4, 18, 1, 0], [7, 99, 0, 0], [0.4, 10.5, 1, 1], [-1, 0, 0, 2]])

MODELS: dict[str, Callable[[], tuple[Any, npt.ArrayLike]]] = {
    "search of a grid": lambda: (
        GridSearchCV(linear(), {"logisticregression__C": [0.1, 1]}, cv=3).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "search at random": lambda: (
        RandomizedSearchCV(make_pipeline(MinMaxScaler(), Ridge()), {"ridge__alpha": [0.1, 1]}, n_iter=2).fit(
            PATIENTS, PROGRESS
        ),
        held_out(PATIENTS),
    ),
    "bagging": lambda: (
        BaggingClassifier(linear(), n_estimators=3, max_features=0.7, random_state=0).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "voting": lambda: (
        VotingClassifier([("linear", linear()), ("bayes", GaussianNB())], voting="soft").fit(WINE, KINDS),
        held_out(WINE),
    ),
    "voting on numbers": lambda: (
        VotingRegressor([("scaled", make_pipeline(StandardScaler(), Ridge())), ("plain", Ridge())]).fit(
            PATIENTS, PROGRESS
        ),
        held_out(PATIENTS),
    ),
    "stacking": lambda: (
        StackingRegressor(
            [
                ("scaled", make_pipeline(StandardScaler(), Ridge())),
                ("tree", DecisionTreeRegressor(max_depth=4)),
            ]
        ).fit(PATIENTS, PROGRESS),
        held_out(PATIENTS),
    ),
    "columns": lambda: (
        make_pipeline(
            ColumnTransformer(
                [("standard", StandardScaler(), [4, 2, 0]), ("most", MaxAbsScaler(), slice(5, 8))]
            ),
            LogisticRegression(max_iter=500),
        ).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "columns in another order": lambda: (
        make_pipeline(
            ColumnTransformer([("standard", StandardScaler(), list(range(13))[::-1])]), Ridge()
        ).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "columns, transformed": lambda: (
        ColumnTransformer([("standard", StandardScaler(), [0, 2]), ("most", MaxAbsScaler(), [5])]).fit(WINE),
        held_out(WINE),
    ),
    "one-hot": lambda: (
        ColumnTransformer(
            [("kinds", OneHotEncoder(handle_unknown="ignore"), [0, 1]), ("sizes", MinMaxScaler(), [2, 3])]
        ).fit(MIXED),
        UNKNOWN,
    ),
    "one-hot, rare ones together": lambda: (
        make_pipeline(
            OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=4, drop="first"),
            LogisticRegression(),
        ).fit(MIXED[:, :2], OUTCOMES),
        UNKNOWN[:, :2],
    ),
    "ordinal": lambda: (
        make_pipeline(
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), LogisticRegression()
        ).fit(MIXED[:, :2], OUTCOMES),
        UNKNOWN[:, :2],
    ),
    "pass through first": lambda: (
        Pipeline(
            [("nothing", "passthrough"), ("scale", StandardScaler()), ("last", LogisticRegression())]
        ).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "the rest passes through": lambda: (
        make_pipeline(
            ColumnTransformer(
                [("kept", "passthrough", [5]), ("standard", StandardScaler(), [0, 2])],
                remainder="passthrough",
            ),
            Ridge(),
        ).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "a function of nothing": lambda: (
        make_pipeline(FunctionTransformer(), StandardScaler(), Ridge()).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "a function of numpy": lambda: (
        make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), Ridge()).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "target encoder": lambda: (
        make_pipeline(
            ColumnTransformer([("kinds", TargetEncoder(), [0, 1]), ("sizes", MinMaxScaler(), [2, 3])]),
            LogisticRegression(),
        ).fit(MIXED, OUTCOMES),
        UNKNOWN,
    ),
    "transformed target": lambda: (
        TransformedTargetRegressor(
            make_pipeline(StandardScaler(), Ridge()), func=np.log1p, inverse_func=np.expm1
        ).fit(PATIENTS, PROGRESS),
        held_out(PATIENTS),
    ),
    "scaled target": lambda: (
        TransformedTargetRegressor(Ridge(), transformer=StandardScaler()).fit(PATIENTS, PROGRESS),
        held_out(PATIENTS),
    ),
    "calibrated": lambda: (CalibratedClassifierCV(linear(), cv=3).fit(WINE, KINDS), held_out(WINE)),
    "calibrated scores": lambda: (
        make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC(), cv=3)).fit(CELLS, MALIGNANT),
        held_out(CELLS),
    ),
    "calibrated by steps": lambda: (
        CalibratedClassifierCV(linear(), method="isotonic", cv=3).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "union": lambda: (
        make_pipeline(
            FeatureUnion([("standard", StandardScaler()), ("range", MinMaxScaler())]), LogisticRegression()
        ).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "elimination": lambda: (
        make_pipeline(StandardScaler(), RFE(LogisticRegression(), n_features_to_select=4)).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "XGBoost, dart": lambda: (
        xgboost.XGBClassifier(n_estimators=5, booster="dart", rate_drop=0.3).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "XGBoost, linear": lambda: (
        xgboost.XGBRegressor(n_estimators=5, booster="gblinear").fit(PATIENTS, PROGRESS),
        held_out(PATIENTS),
    ),
    "XGBoost, linear classes": lambda: (
        xgboost.XGBClassifier(n_estimators=5, booster="gblinear").fit(WINE, KINDS),
        held_out(WINE),
    ),
    "XGBoost, two numbers in a tree": lambda: (
        xgboost.XGBRegressor(n_estimators=5, multi_strategy="multi_output_tree").fit(
            PATIENTS, np.column_stack([PROGRESS, -PROGRESS])
        ),
        held_out(PATIENTS),
    ),
    "XGBoost, three classes in a tree": lambda: (
        xgboost.XGBClassifier(n_estimators=5, multi_strategy="multi_output_tree").fit(WINE, KINDS),
        held_out(WINE),
    ),
    "one against one": lambda: (
        OneVsOneClassifier(LogisticRegression(max_iter=2000)).fit(CELLS, MALIGNANT),
        held_out(CELLS),
    ),
    "XGBoost, two numbers": lambda: (
        xgboost.XGBRegressor(n_estimators=5).fit(PATIENTS, np.column_stack([PROGRESS, -PROGRESS])),
        held_out(PATIENTS),
    ),
    "XGBoost, ranks": lambda: (
        xgboost.XGBRanker(n_estimators=5).fit(WINE, KINDS, group=[78, 100]),
        held_out(WINE),
    ),
    "XGBoost, random forest": lambda: (
        xgboost.XGBRFClassifier(n_estimators=5).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "XGBoost, categories": lambda: (
        xgboost.XGBClassifier(
            n_estimators=5, enable_categorical=True, feature_types=["c", "c", "q", "q"]
        ).fit(MIXED, OUTCOMES),
        np.vstack([held_out(MIXED)[:, :4].round(), UNKNOWN[:-1]]),
    ),
    "LightGBM, dart": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, boosting_type="dart").fit(WINE, KINDS),
        held_out(WINE),
    ),
    "LightGBM, ranks": lambda: (
        lightgbm.LGBMRanker(n_estimators=5, verbose=-1).fit(WINE, KINDS, group=[78, 100]),
        held_out(WINE),
    ),
    "LightGBM, random forest": lambda: (
        lightgbm.LGBMClassifier(
            n_estimators=5, verbose=-1, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5
        ).fit(WINE, KINDS),
        held_out(WINE),
    ),
    "LightGBM, lines in its leaves": lambda: (
        lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, linear_tree=True).fit(PATIENTS, PROGRESS),
        np.vstack([held_out(PATIENTS), np.where(PATIENTS[:50] > 0.04, np.nan, PATIENTS[:50])]),
    ),
    "LightGBM, categories": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, linear_tree=True, min_child_samples=5).fit(
            MIXED, OUTCOMES, categorical_feature=[0, 1]
        ),
        np.vstack([held_out(MIXED).round(), UNKNOWN]),
    ),
    "LightGBM, one against all": lambda: (
        lightgbm.LGBMClassifier(n_estimators=5, verbose=-1, objective="multiclassova").fit(WINE, KINDS),
        held_out(WINE),
    ),
    "LightGBM, logarithms": lambda: (
        lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, objective="poisson").fit(PATIENTS, PROGRESS),
        held_out(PATIENTS),
    ),
    "LightGBM, roots": lambda: (
        lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, reg_sqrt=True).fit(PATIENTS, PROGRESS),
        held_out(PATIENTS),
    ),
    "histogram boosting, categories": lambda: (
        HistGradientBoostingClassifier(max_iter=5, categorical_features=[1, 0]).fit(MIXED, OUTCOMES),
        np.vstack([held_out(MIXED).round(), UNKNOWN]),
    ),
    "histogram boosting, all categories": lambda: (
        HistGradientBoostingRegressor(max_iter=5, loss="gamma", categorical_features=[0, 1]).fit(
            MIXED[:, :2], OUTCOMES + 1.0
        ),
        UNKNOWN[:, :2],
    ),
    "isolation forest of some columns": lambda: (
        IsolationForest(n_estimators=5, max_features=3, random_state=0).fit(WINE),
        held_out(WINE),
    ),
    **{
        type(selection).__name__: lambda selection=selection: (
            make_pipeline(StandardScaler(), selection, LogisticRegression()).fit(WINE, KINDS),
            held_out(WINE),
        )
        for selection in (
            SelectKBest(f_classif, k=3),
            SelectPercentile(f_classif),
            SelectFpr(f_classif),
            SelectFdr(f_classif),
            SelectFwe(f_classif),
            GenericUnivariateSelect(f_classif, mode="k_best", param=3),
        )
    },
}


REFUSED: dict[str, Callable[[], Any]] = {
    "another function": lambda: FunctionTransformer(os.system),
    "a function with arguments": lambda: FunctionTransformer(np.log1p, kw_args={"out": WINE}),
    "a function that was given arguments": lambda: FunctionTransformer(partial(os.system, "true")),
    "a check of other arguments": lambda: FunctionTransformer(partial(check_array, estimator=Ridge())),
    "another function of the target": lambda: TransformedTargetRegressor(
        Ridge(), func=np.save, inverse_func=np.load, check_inverse=False
    ),
    "a vectorizer that opens files": lambda: CountVectorizer(input="filename"),
    "a vectorizer that calls a function": lambda: CountVectorizer(analyzer=os.system),
    "words outside the table": lambda: _with_words({"a": 0, "b": 900}),
}


def _with_words(words: dict[str, int]) -> Any:
    vectorizer = CountVectorizer()
    vectorizer.vocabulary_ = words
    return vectorizer


@pytest.mark.parametrize("suffix", ["joblib", "skops"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_could_run_code_or_leave_its_memory_is_refused(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (joblib.dump if suffix == "joblib" else skops.io.dump)(REFUSED[name](), path)

    with pytest.raises(UnsafeCheckpoint):
        sources.load(path, {})


@pytest.mark.parametrize("suffix", ["joblib", "skops"])
@pytest.mark.parametrize("name", MODELS)
def test_it_answers_as_the_estimator(name: str, suffix: str, tmp_path: Path) -> None:
    estimator, rows = MODELS[name]()
    check(estimator, rows, tmp_path, suffix)


def test_a_ranker_of_xgboost_in_its_own_file_answers_as_the_estimator(tmp_path: Path) -> None:
    ranker = xgboost.XGBRanker(n_estimators=5).fit(WINE, KINDS, group=[78, 100])
    ranker.save_model(tmp_path / "model.json")

    answer = sources.load(tmp_path / "model.json", {}).reference({"input": held_out(WINE)})

    np.testing.assert_allclose(answer["variable"][:, 0], ranker.predict(held_out(WINE)), rtol=1e-6)
