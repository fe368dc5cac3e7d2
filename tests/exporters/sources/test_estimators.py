"""Every file that an estimator comes in, and what it answers."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from exporters import sources
from exporters.base import ESTIMATOR
from exporters.errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption

from .skops_files import rewrite

X, Y = load_iris(return_X_y=True)
X32 = X.astype(np.float32)
SPECIES = np.array(["setosa", "versicolor", "virginica"])[Y]


def _pickle(estimator: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(estimator))


def _forest() -> Any:
    return RandomForestClassifier(5, random_state=0, n_jobs=4).fit(X, SPECIES)


def _xgboost() -> Any:
    return xgboost.XGBClassifier(n_estimators=3).fit(X, Y)


def _lightgbm() -> Any:
    return lightgbm.LGBMClassifier(n_estimators=3, verbose=-1).fit(X, Y)


@pytest.mark.parametrize(
    ("kind", "build", "write"),
    [
        ("sklearn", _forest, _pickle),
        ("sklearn", _forest, joblib.dump),
        ("sklearn", _forest, lambda estimator, path: joblib.dump(estimator, path, compress=3)),
        ("sklearn", _forest, skops.io.dump),
        ("sklearn", lambda: HistGradientBoostingClassifier(max_iter=3).fit(X, SPECIES), skops.io.dump),
        ("sklearn", lambda: KNeighborsClassifier(algorithm="kd_tree").fit(X, SPECIES), skops.io.dump),
        ("sklearn", lambda: KNeighborsClassifier(algorithm="ball_tree").fit(X, SPECIES), _pickle),
        ("xgboost", _xgboost, _pickle),
        ("xgboost", _xgboost, lambda estimator, path: estimator.get_booster().save_model(f"{path}.json")),
        ("xgboost", _xgboost, lambda estimator, path: estimator.get_booster().save_model(f"{path}.ubj")),
        ("lightgbm", _lightgbm, joblib.dump),
        ("lightgbm", _lightgbm, lambda estimator, path: estimator.booster_.save_model(path)),
    ],
)
def test_the_source_answers_what_the_estimator_does(
    kind: str, build: Callable[[], Any], write: Callable[[Any, Path], Any], tmp_path: Path
) -> None:
    estimator = build()
    write(estimator, tmp_path / "model")
    path = next(tmp_path.iterdir())

    source = sources.load(path, {})

    assert sources.detect(path) == kind
    assert (source.kind, source.family) == (kind, ESTIMATOR)
    assert [(spec.name, spec.dtype, spec.shape) for spec in source.inputs] == [
        ("input", "float32", ("batch", 4))
    ]
    answer = source.reference({"input": X32})
    expected = estimator.predict_proba(X32.astype(float))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-6)
    assert answer["label"].dtype == np.int64
    np.testing.assert_array_equal(answer["label"], expected.argmax(1))


def test_a_class_with_a_name_is_labelled_by_its_place(tmp_path: Path) -> None:
    _pickle(LogisticRegression().fit(X, SPECIES), tmp_path / "model.pkl")

    source = sources.load(tmp_path / "model.pkl", {})

    assert source.classes == ("setosa", "versicolor", "virginica")
    assert set(source.reference({"input": X32})["label"]) == {0, 1, 2}


def test_a_class_that_is_a_number_is_its_own_label(tmp_path: Path) -> None:
    _pickle(LogisticRegression().fit(X, Y + 5), tmp_path / "model.pkl")

    source = sources.load(tmp_path / "model.pkl", {})

    assert source.classes == ("5", "6", "7")
    assert set(source.reference({"input": X32})["label"]) == {5, 6, 7}


def test_two_classes_without_probabilities_have_a_score_each(tmp_path: Path) -> None:
    estimator = LinearSVC().fit(X, Y == 1)
    _pickle(estimator, tmp_path / "model.pkl")

    scores = sources.load(tmp_path / "model.pkl", {}).reference({"input": X32})["scores"]

    np.testing.assert_allclose(scores[:, 1], estimator.decision_function(X32.astype(float)), rtol=1e-5)
    np.testing.assert_array_equal(scores[:, 0], -scores[:, 1])


@pytest.mark.parametrize("objective", ["binary", "regression", "poisson"])
def test_a_booster_of_lightgbm_knows_what_it_was_trained_for(objective: str, tmp_path: Path) -> None:
    target = Y == 1 if objective == "binary" else X[:, 3]
    booster = lightgbm.train({"objective": objective, "verbose": -1}, lightgbm.Dataset(X[:, :3], target), 3)
    booster.save_model(tmp_path / "model.txt")

    answer = sources.load(tmp_path / "model.txt", {}).reference({"input": X32[:, :3]})

    ours = answer["probabilities"][:, 1] if objective == "binary" else answer["variable"][:, 0]
    np.testing.assert_allclose(ours, booster.predict(X32[:, :3]), rtol=1e-6)


@pytest.mark.parametrize("objective", ["multi:softmax", "multi:softprob", "reg:squarederror"])
def test_a_booster_of_xgboost_knows_what_it_was_trained_for(objective: str, tmp_path: Path) -> None:
    parameters = {"objective": objective, **({"num_class": 3} if objective.startswith("multi") else {})}
    booster = xgboost.train(parameters, xgboost.DMatrix(X32, Y), 3)
    booster.save_model(tmp_path / "model.json")

    answer = sources.load(tmp_path / "model.json", {}).reference({"input": X32})

    if objective.startswith("multi"):
        assert answer["probabilities"].shape == (150, 3)
        predicted = booster.predict(xgboost.DMatrix(X32))
        np.testing.assert_array_equal(
            answer["label"], predicted if predicted.ndim == 1 else predicted.argmax(1)
        )
    else:
        np.testing.assert_allclose(answer["variable"][:, 0], booster.predict(xgboost.DMatrix(X32)), rtol=1e-6)


def test_the_values_it_is_asked_about_are_those_it_was_fitted_on(tmp_path: Path) -> None:
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(X * 1000 + 1e5, Y)
    _pickle(scaled, tmp_path / "model.pkl")

    kind, probe = next(iter(sources.load(tmp_path / "model.pkl", {}).probes()))

    assert (kind, probe["input"].shape) == ("typical", (128, 4))
    assert (np.abs(probe["input"] - (X.mean(0) * 1000 + 1e5)) < 6000).all()


def test_what_was_not_fitted_says_so(tmp_path: Path) -> None:
    _pickle(LogisticRegression(), tmp_path / "model.pkl")

    with pytest.raises(InvalidSource, match=r"Call fit\(\)"):
        sources.load(tmp_path / "model.pkl", {})


def test_the_columns_of_an_estimator_are_not_the_requests_to_choose(tmp_path: Path) -> None:
    _pickle(LogisticRegression().fit(X, Y), tmp_path / "model.pkl")

    with pytest.raises(UnsupportedOption, match="an estimator records its columns"):
        sources.load(tmp_path / "model.pkl", {"inputs": [{"shape": ["batch", 4]}]})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.json", b'{"learner": {"gradient_booster": 1}}'),
        ("model.txt", b"tree\nversion=v4\nnum_class=3\n"),
        ("model.joblib", b"\x78\x9c" + b"\x00" * 50),
    ],
)
def test_a_damaged_model_says_what_to_do(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidSource, match=r"Save it with|Upload it again|Save it again"):
        sources.load(tmp_path / name, {})


@pytest.mark.parametrize(
    "entry",
    [
        {"__module__": "os", "__class__": "system", "__loader__": "FunctionNode"},
        {"__module__": "builtins", "__class__": "eval", "__loader__": "TypeNode"},
        {"__module__": "operator", "__class__": "attrgetter", "__loader__": "OperatorFuncNode"},
        {"__module__": "functools", "__class__": "partial", "__loader__": "PartialNode"},
        {
            "__module__": "sklearn.linear_model._logistic",
            "__class__": "LogisticRegression",
            "__loader__": "MethodNode",
        },
        {"__module__": "numpy", "__class__": "load", "__loader__": "FunctionNode"},
    ],
    ids=lambda entry: entry["__loader__"] + "-" + entry["__class__"],
)
def test_a_skops_file_with_anything_else_in_it_is_refused(entry: dict[str, str], tmp_path: Path) -> None:
    skops.io.dump(LogisticRegression().fit(X, Y), tmp_path / "good.skops")

    def with_note(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["note_"] = {**entry, "__id__": 1, "content": {}}

    rewrite(tmp_path / "good.skops", tmp_path / "bad.skops", with_note)

    with pytest.raises(UnsafeCheckpoint) as caught:
        sources.load(tmp_path / "bad.skops", {})

    assert entry["__class__"] in caught.value.details["refused"]


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (r"split_feature=\d+", "split_feature=9"),
        (r"left_child=-?\d+", "left_child=0"),
        (r"right_child=-?\d+", "right_child=-99"),
        (r"tree_sizes=\d", "tree_sizes=9"),
        (r"num_class:3", "num_class:9"),
        (r"num_class=3", "num_class=1"),
    ],
)
@pytest.mark.parametrize("kind", ["txt", "pkl", "skops"])
def test_a_booster_of_lightgbm_that_leaves_its_memory_is_refused(
    pattern: str, value: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = _lightgbm()
    text = re.sub(pattern, value, estimator.booster_.model_to_string(), count=1)
    monkeypatch.setattr(lightgbm.Booster, "model_to_string", lambda self, **_: text)
    path = tmp_path / f"model.{kind}"
    if kind == "txt":
        path.write_text(text)
    else:
        (_pickle if kind == "pkl" else skops.io.dump)(estimator, path)

    with pytest.raises(InvalidSource, match="LightGBM cannot read"):
        sources.load(path, {})


def test_a_booster_of_lightgbm_may_have_categories(tmp_path: Path) -> None:
    columns = np.column_stack([X, np.arange(150) % 40])
    estimator = lightgbm.LGBMRegressor(n_estimators=2, verbose=-1, min_data_per_group=1, cat_smooth=0)
    estimator.fit(columns, np.sin(columns[:, 4] * 9), categorical_feature=[4])
    assert "cat_threshold" in estimator.booster_.model_to_string()
    estimator.booster_.save_model(tmp_path / "model.txt")

    answer = sources.load(tmp_path / "model.txt", {}).reference({"input": columns.astype(np.float32)})

    np.testing.assert_allclose(answer["variable"][:, 0], estimator.predict(columns), rtol=1e-5)


def test_a_skops_file_has_no_attribute_in_place_of_a_method(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(X, Y)
    estimator.predict = "other"
    skops.io.dump(estimator, tmp_path / "model.skops")

    with pytest.raises(UnsafeCheckpoint, match="that replaces a method"):
        sources.load(tmp_path / "model.skops", {})


def test_an_estimator_that_is_not_whole_says_so(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit(X, Y)
    del estimator.classes_
    _pickle(estimator, tmp_path / "model.pkl")

    with pytest.raises(InvalidSource, match="incomplete"):
        sources.load(tmp_path / "model.pkl", {})
