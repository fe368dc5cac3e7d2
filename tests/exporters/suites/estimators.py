"""scikit-learn's estimators, pipelines and boosters as sources of ONNX, judged by a plain session.

    python -m tests.exporters.suites.estimators FOLDER [FIRST STEP]

prints a line of JSON for each case. Nothing of the verifier is used: the held-out rows are made here, the
session is onnxruntime's own, and the answers are the estimator's.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
_SEED = np.random.default_rng(0)
CODES = np.column_stack(
    [_SEED.integers(0, 5, 300), _SEED.integers(0, 9, 300), _SEED.normal(size=(300, 2))]
).astype(float)
CODE_KINDS = (CODES[:, 0] % 2 + (CODES[:, 2] > 0)).astype(int)
CODE_VALUES = CODES[:, 2] + CODES[:, 0]
Made = tuple[Any, npt.NDArray[Any]]  # an estimator and the rows that it was fitted on


# What takes minutes on these data otherwise.
_QUICK: dict[str, dict[str, Any]] = {
    "DictionaryLearning": {"n_components": 3, "max_iter": 3},
    "MiniBatchDictionaryLearning": {"n_components": 3, "max_iter": 3},
    "SparsePCA": {"n_components": 3, "max_iter": 3},
    "MiniBatchSparsePCA": {"n_components": 3, "max_iter": 3},
    "GaussianProcessClassifier": {"max_iter_predict": 5},
    "SequentialFeatureSelector": {"n_features_to_select": 2, "cv": 2},
}


def cases() -> Iterator[tuple[str, Callable[[], Made]]]:
    """Each case by its name: every estimator on two sets of data, then pipelines, then boosters."""
    yield from _of_scikit_learn()
    yield from _of_pipelines()
    yield from _of_boosters()


def _of_scikit_learn() -> Iterator[tuple[str, Callable[[], Made]]]:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
    from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer  # noqa: F401
    from sklearn.utils import all_estimators

    wine, cells = load_wine(return_X_y=True), load_breast_cancer(return_X_y=True)
    digits = tuple(one[:400] for one in load_digits(return_X_y=True))
    patients = load_diabetes(return_X_y=True)
    for name, model in all_estimators():
        if not any(hasattr(model, one) for one in ("predict", "transform")):
            continue
        regresses = "regressor" in str(getattr(model, "_estimator_type", "")) or name.endswith(
            ("Regressor", "Regression", "SVR")
        )
        sets = {"wine": wine, "cancer": cells} if not regresses else {"diabetes": patients, "wine": wine}
        if name in ("LogisticRegression", "RandomForestClassifier", "KNeighborsClassifier", "PCA", "SVC"):
            sets |= {"digits": digits}
        for data, (rows, target) in sets.items():
            yield (
                f"{name} on {data}",
                lambda model=model, rows=rows, target=target: (
                    _fitted(model, rows, target),
                    rows,
                ),
            )


def _fitted(model: Any, rows: npt.NDArray[Any], target: npt.NDArray[Any]) -> Any:
    """In its everyday construction; with an estimator inside where it needs one."""
    import inspect

    from sklearn.linear_model import LogisticRegression, Ridge

    needed = {
        name
        for name, one in inspect.signature(model.__init__).parameters.items()
        if one.default is inspect.Parameter.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    } - {"self"}
    inner: Any = Ridge() if "Regressor" in model.__name__ else LogisticRegression(max_iter=300)
    given: dict[str, Any] = {
        "estimator": inner,
        "estimators": [("one", inner), ("two", inner)],
        "param_grid": {"fit_intercept": [True, False]},
        "param_distributions": {"fit_intercept": [True, False]},
        "transformers": [("all", "passthrough", slice(None))],
        "transformer_list": [("all", "passthrough")],
        "steps": [("one", inner)],
    }
    if "random_state" in inspect.signature(model.__init__).parameters:
        needed.add("random_state")
        given["random_state"] = 0
    quick = _QUICK.get(model.__name__, {})
    return model(**{name: given[name] for name in needed}, **quick).fit(rows, target)


def _of_pipelines() -> Iterator[tuple[str, Callable[[], Made]]]:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.datasets import load_diabetes, load_wine
    from sklearn.decomposition import PCA
    from sklearn.ensemble import (
        BaggingClassifier,
        RandomForestClassifier,
        StackingClassifier,
        VotingClassifier,
    )
    from sklearn.feature_selection import RFE, SelectKBest
    from sklearn.impute import KNNImputer, SimpleImputer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import FeatureUnion, make_pipeline
    from sklearn.preprocessing import (
        FunctionTransformer,
        KBinsDiscretizer,
        MinMaxScaler,
        OneHotEncoder,
        OrdinalEncoder,
        PolynomialFeatures,
        PowerTransformer,
        QuantileTransformer,
        RobustScaler,
        StandardScaler,
        TargetEncoder,
    )
    from sklearn.svm import SVC, LinearSVC

    wine, kinds = load_wine(return_X_y=True)
    patients, progress = load_diabetes(return_X_y=True)
    gaps = np.where(np.random.default_rng(1).random(wine.shape) < 0.1, np.nan, wine)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    first, last = slice(0, 4), slice(4, 13)
    of_codes = [("codes", OneHotEncoder(handle_unknown="ignore"), [0, 1]), ("sizes", MinMaxScaler(), [2, 3])]
    on: dict[str, tuple[Any, npt.NDArray[Any], npt.NDArray[Any]]] = {
        "scaled linear": (scaled, wine, kinds),
        "scaled SVC": (make_pipeline(StandardScaler(), SVC()), wine, kinds),
        "scaled neighbours": (make_pipeline(MinMaxScaler(), KNeighborsClassifier()), wine, kinds),
        "scaled forest": (make_pipeline(RobustScaler(), RandomForestClassifier(10)), wine, kinds),
        "components": (make_pipeline(StandardScaler(), PCA(4), scaled), wine, kinds),
        "imputed": (make_pipeline(SimpleImputer(), scaled), gaps, kinds),
        "imputed, indicated": (make_pipeline(SimpleImputer(add_indicator=True), scaled), gaps, kinds),
        "neighbours imputed": (make_pipeline(KNNImputer(), scaled), gaps, kinds),
        "polynomial": (make_pipeline(StandardScaler(), PolynomialFeatures(), Ridge()), patients, progress),
        "quantiles": (make_pipeline(QuantileTransformer(n_quantiles=50), Ridge()), patients, progress),
        "power": (make_pipeline(PowerTransformer(), Ridge()), patients, progress),
        "bins": (make_pipeline(KBinsDiscretizer(), Ridge()), patients, progress),
        "columns": (
            make_pipeline(
                ColumnTransformer([("a", StandardScaler(), first), ("b", MinMaxScaler(), last)]), scaled
            ),
            wine,
            kinds,
        ),
        "one-hot": (make_pipeline(ColumnTransformer(of_codes), LogisticRegression()), CODES, CODE_KINDS),
        "ordinal": (
            make_pipeline(
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), LogisticRegression()
            ),
            CODES[:, :2],
            CODE_KINDS,
        ),
        "target encoder": (
            make_pipeline(
                ColumnTransformer([("t", TargetEncoder(), [0, 1])], remainder="passthrough"), scaled
            ),
            CODES,
            CODE_KINDS,
        ),
        "passthrough": (
            make_pipeline(
                ColumnTransformer([("a", StandardScaler(), first)], remainder="passthrough"), Ridge()
            ),
            wine,
            kinds,
        ),
        "logarithm": (make_pipeline(FunctionTransformer(np.log1p), scaled), wine, kinds),
        "union": (make_pipeline(FeatureUnion([("p", PCA(2)), ("s", StandardScaler())]), scaled), wine, kinds),
        "best of": (make_pipeline(StandardScaler(), SelectKBest(k=4), scaled), wine, kinds),
        "elimination": (make_pipeline(StandardScaler(), RFE(LogisticRegression())), wine, kinds),
        "grid": (GridSearchCV(scaled, {"logisticregression__C": [0.1, 1]}, cv=3), wine, kinds),
        "random search": (
            RandomizedSearchCV(scaled, {"logisticregression__C": [0.1, 1]}, n_iter=2, cv=3),
            wine,
            kinds,
        ),
        "bag": (BaggingClassifier(scaled, n_estimators=3), wine, kinds),
        "vote": (VotingClassifier([("a", scaled), ("b", GaussianNB())], voting="soft"), wine, kinds),
        "stack": (StackingClassifier([("a", scaled), ("b", RandomForestClassifier(5))]), wine, kinds),
        "calibrated": (CalibratedClassifierCV(LinearSVC(), cv=3), wine, kinds),
        "calibrated by steps": (CalibratedClassifierCV(scaled, method="isotonic", cv=3), wine, kinds),
        "target transformed": (
            TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
            patients,
            progress,
        ),
    }
    for name, (model, rows, target) in on.items():
        yield (
            f"pipeline: {name}",
            lambda model=model, rows=rows, target=target: (
                model.fit(rows, target),
                rows,
            ),
        )


def _of_boosters() -> Iterator[tuple[str, Callable[[], Made]]]:
    import lightgbm
    import xgboost
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    wine, kinds = load_wine(return_X_y=True)
    cells, malignant = load_breast_cancer(return_X_y=True)
    patients, progress = load_diabetes(return_X_y=True)
    gaps = np.where(np.random.default_rng(1).random(wine.shape) < 0.1, np.nan, wine)
    few: dict[str, Any] = {"n_estimators": 10}
    quiet: dict[str, Any] = {**few, "verbose": -1}
    coded: dict[str, Any] = {**few, "enable_categorical": True, "feature_types": ["c", "c", "q", "q"]}
    both = np.column_stack([progress, -progress])
    made: dict[str, Callable[[], Made]] = {}
    for name, rows, target in (("3", wine, kinds), ("2", cells, malignant), ("gaps", gaps, kinds)):
        for kind, model in (
            ("XGB", xgboost.XGBClassifier(**few)),
            ("XGB dart", xgboost.XGBClassifier(**few, booster="dart")),
            ("XGB linear", xgboost.XGBClassifier(**few, booster="gblinear")),
            ("XGBRF", xgboost.XGBRFClassifier(**few)),
            ("LGBM", lightgbm.LGBMClassifier(**quiet)),
            ("LGBM dart", lightgbm.LGBMClassifier(**quiet, boosting_type="dart")),
            ("LGBM goss", lightgbm.LGBMClassifier(**quiet, data_sample_strategy="goss")),
            ("HGB", HistGradientBoostingClassifier(max_iter=10)),
        ):
            made[f"{kind}, {name}"] = lambda model=model, rows=rows, target=target: (
                model.fit(rows, target),
                rows,
            )
    for kind, model in (
        ("XGB number", xgboost.XGBRegressor(**few)),
        ("XGB number, dart", xgboost.XGBRegressor(**few, booster="dart")),
        ("XGB number, linear", xgboost.XGBRegressor(**few, booster="gblinear")),
        ("XGBRF number", xgboost.XGBRFRegressor(**few)),
        ("XGB counts", xgboost.XGBRegressor(**few, objective="count:poisson")),
        ("LGBM number", lightgbm.LGBMRegressor(**quiet)),
        ("LGBM counts", lightgbm.LGBMRegressor(**quiet, objective="poisson")),
        ("LGBM lines", lightgbm.LGBMRegressor(**quiet, linear_tree=True)),
        ("LGBM zeros", lightgbm.LGBMRegressor(**quiet, zero_as_missing=True)),
        ("HGB number", HistGradientBoostingRegressor(max_iter=10)),
        ("HGB counts", HistGradientBoostingRegressor(max_iter=10, loss="poisson")),
    ):
        made[kind] = lambda model=model: (model.fit(patients, progress), patients)
    made |= {
        "XGB two numbers": lambda: (xgboost.XGBRegressor(**few).fit(patients, both), patients),
        "XGB ranks": lambda: (xgboost.XGBRanker(**few).fit(wine, kinds, group=[78, 100]), wine),
        "LGBM ranks": lambda: (lightgbm.LGBMRanker(**quiet).fit(wine, kinds, group=[78, 100]), wine),
        "XGB codes": lambda: (xgboost.XGBClassifier(**coded).fit(CODES, CODE_KINDS), CODES),
        "LGBM codes": lambda: (
            lightgbm.LGBMClassifier(**quiet).fit(CODES, CODE_KINDS, categorical_feature=[0, 1]),
            CODES,
        ),
        "HGB codes": lambda: (
            HistGradientBoostingRegressor(max_iter=10, categorical_features=[0, 1]).fit(CODES, CODE_VALUES),
            CODES,
        ),
    }
    for name, make in made.items():
        yield f"booster: {name}", make


def held_out(rows: npt.NDArray[Any]) -> Iterator[Rows]:
    """Blocks of rows: near the known ones, ties, then one value that is missing, huge, tiny, zero or new."""
    random = np.random.default_rng(7)
    low, high = np.nanmin(rows, axis=0), np.nanmax(rows, axis=0)
    near = rows[random.integers(0, len(rows), 60)].astype(np.float32)
    yield near
    yield np.repeat(near[:5], 3, axis=0)
    yield random.uniform(low, high, (60, rows.shape[1])).astype(np.float32)
    for value in (np.nan, 1e30, -1e30, 1e-40, -1e-40, 0.0, -0.0, 77.0, 0.5):
        block = near.copy()
        block[np.arange(len(block)), random.integers(0, rows.shape[1], len(block))] = value
        yield block


def wanted(estimator: Any, rows: Rows) -> dict[str, npt.NDArray[Any]]:
    """By the name of the output. Raises what the estimator does."""
    wide = rows.astype(np.float64)
    found: dict[str, npt.NDArray[Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if hasattr(estimator, "predict_proba"):
            found["probabilities"] = np.asarray(estimator.predict_proba(wide))
        if hasattr(estimator, "predict"):
            answer = np.asarray(estimator.predict(wide))
            found["label" if hasattr(estimator, "classes_") else "variable"] = answer.reshape(len(rows), -1)
        elif hasattr(estimator, "transform"):
            answer = estimator.transform(wide)
            answer = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
            found["variable"] = answer.reshape(len(rows), -1)
    return found


def differs(estimator: Any, artefact: Path, rows: npt.NDArray[Any]) -> str:
    """Where a plain session answers otherwise than the estimator; nothing where it does not."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(artefact, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    for number, block in enumerate(held_out(rows)):
        try:
            expected = wanted(estimator, block)
        except ValueError:
            continue  # rows that the estimator does not take
        found = dict(zip(names, session.run(names, {"input": block}), strict=True))
        tied = np.zeros(len(block), bool)
        if "probabilities" in expected:
            best = np.sort(expected["probabilities"], axis=1)
            tied = best[:, -1] - best[:, -2] < 2e-3
        for name in expected.keys() & found.keys():
            right, ours = expected[name].reshape(len(block), -1), found[name].reshape(len(block), -1)
            if name == "label":
                right, ours = right[~tied], ours[~tied]
                if right.dtype.kind in "iufb" and not np.array_equal(right, ours):
                    return f"label, block {number}"
            elif not _close(right, ours):
                return f"{name}, block {number}"
    return ""


def _close(right: npt.NDArray[Any], ours: npt.NDArray[Any]) -> bool:
    with np.errstate(over="ignore"):
        narrow = right.astype(np.float32)
    finite = np.isfinite(narrow)
    scale = float(np.abs(narrow[finite]).max(initial=0.0))
    return right.shape == ours.shape and np.allclose(narrow, ours, 2e-3, 2e-4 * scale + 1e-6, equal_nan=True)


# What a refusal says → its class.
CAUSES = {
    "contains": "not on the list of what is loaded",
    "cannot be converted": "no converter",
    "There is no": "no converter",
    "does not behave like its source": "wrong, and found so",
    "fails where its source works": "fails in the runtime, and found so",
    "neither predicts nor transforms": "answers no single row",
    "which is no fitted estimator": "no input of columns",
    "several labels": "several labels for a row",
}


def measure(make: Callable[[], Made], folder: Path) -> dict[str, Any]:
    """What came of one case: ``result`` right, wrong, refused or no case, and ``cause``."""
    import joblib

    from exporters.convert import run
    from exporters.errors import ExportError
    from exporters.request import ExportRequest

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator, rows = make()
        if not any(hasattr(estimator, name) for name in ("predict", "transform")):
            return {"result": "no case", "cause": "it answers only the rows that it was fitted on"}
    except Exception as exc:
        return {"result": "no case", "cause": f"fit: {str(exc)[:120]}"}
    joblib.dump(estimator, folder / "model.joblib")
    try:
        run(ExportRequest(folder / "model.joblib", folder / "out", "onnx"))
    except ExportError as exc:
        cause = next((one for said, one in CAUSES.items() if said in exc.message), exc.code)
        return {"result": "refused", "cause": cause, "message": exc.message[:300]}
    except Exception as exc:
        return {"result": "refused", "cause": "traceback", "message": f"{type(exc).__name__}: {exc}"[:300]}
    cause = differs(estimator, folder / "out" / "model.onnx", rows)
    return {"result": "wrong" if cause else "right", "cause": cause}


def main(folder: Path, first: int = 0, step: int = 1) -> None:
    for number, (name, make) in enumerate(cases()):
        if number % step == first:
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                print(json.dumps({"case": name, **measure(make, Path(scratch))}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
