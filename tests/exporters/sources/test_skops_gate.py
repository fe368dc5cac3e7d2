"""Archives of skops that hide from the checks what scikit-learn would use."""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pytest
import skops.io
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.tree._tree import Tree

from exporters import sources
from exporters.errors import UnsafeCheckpoint
from exporters.request import Trust
from exporters.sources import estimators, native_state

from .skops_files import rewrite

X, Y = load_iris(return_X_y=True)


def _search() -> Any:
    grid = {"max_depth": [1, 2], "max_leaf_nodes": [None, 4]}
    return GridSearchCV(DecisionTreeClassifier(random_state=0), grid, cv=2).fit(X, Y)


def _far(member: Any) -> Any:
    """With a branch that leaves the tree, taken by rows above 1e35 alone."""
    state = member.tree_.__getstate__()
    nodes = state["nodes"].copy()
    nodes["threshold"][0], nodes["right_child"][0] = 1e35, 1 << 40
    member.tree_ = Tree(4, np.array([1], np.intp), 1)
    member.tree_.__setstate__({**state, "nodes": nodes})
    return member


def _masked_members() -> Any:
    estimator = GradientBoostingRegressor(n_estimators=2, max_depth=1).fit(X, Y)
    _far(estimator.estimators_[1, 0])
    estimator.estimators_ = np.ma.MaskedArray(estimator.estimators_, mask=[[False], [True]])
    return estimator


def _masked_parameter() -> Any:
    estimator = _search()
    members = np.array([_far(DecisionTreeRegressor(max_depth=1).fit(X, Y)), None], dtype=object)
    estimator.cv_results_["param_other"] = np.ma.MaskedArray(members, mask=True)
    return estimator


def _masked_labels() -> Any:
    estimator = KNeighborsClassifier(algorithm="brute").fit(X, Y)
    labels = estimator._y.copy()
    labels[0] = 1 << 33
    estimator._y = np.ma.MaskedArray(labels, mask=labels > 2)
    return estimator


def _masked_support() -> Any:
    estimator = SVC().fit(X, Y)
    support = estimator.support_.copy()
    support[0] = 1 << 30
    estimator.support_ = np.ma.MaskedArray(support, mask=support > 150)
    return estimator


def _masked_nodes() -> Any:
    estimator = HistGradientBoostingClassifier(max_iter=1).fit(X, Y)
    predictor = estimator._predictors[0][0]
    nodes = predictor.nodes.copy()
    nodes["left"][0] = 1 << 20
    mask = np.zeros(nodes.shape, np.ma.make_mask_descr(nodes.dtype))
    mask["left"][0] = True
    predictor.nodes = np.ma.MaskedArray(nodes, mask=mask)
    return estimator


@pytest.mark.parametrize(
    "make", [_masked_members, _masked_parameter, _masked_labels, _masked_support, _masked_nodes]
)
def test_a_mask_hides_nothing(make: Callable[[], Any], tmp_path: Path) -> None:
    skops.io.dump(make(), tmp_path / "model.skops")

    with pytest.raises(UnsafeCheckpoint, match="memory outside its arrays"):
        estimators.read(tmp_path / "model.skops")


def test_the_results_of_a_search_have_masks(tmp_path: Path) -> None:
    estimator = _search()
    assert isinstance(estimator.cv_results_["param_max_depth"], np.ma.MaskedArray)
    skops.io.dump(estimator, tmp_path / "model.skops")

    answer = sources.load(tmp_path / "model.skops", {}).reference({"input": X.astype(np.float32)})

    np.testing.assert_array_equal(answer["label"], estimator.predict(X))


def _two_with_categories() -> Any:
    one = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])
    columns = np.column_stack([np.arange(150) % 3, X])
    return VotingClassifier([("a", one), ("b", one)], voting="soft").fit(columns, Y)


@pytest.mark.parametrize("loader", ["CachedNode", "FunctionNode"])
def test_a_partial_of_what_stands_elsewhere_is_refused(loader: str, tmp_path: Path) -> None:
    """skops takes the first entry with a number for all others of that number, whatever they say."""
    skops.io.dump(_two_with_categories(), tmp_path / "good.skops")
    booster = {"__module__": "lightgbm.basic", "__class__": "Booster", "__loader__": "TypeNode", "__id__": 1}
    changed = 0

    def change(entry: Any) -> None:
        nonlocal changed
        if isinstance(entry, dict):
            if entry.get("__loader__") == "PartialNode":
                entry["content"]["func"] |= {"__loader__": loader, "__id__": 1}
                changed += 1
            entry = list(entry.values())
        for part in entry if isinstance(entry, list) else []:
            change(part)

    def with_note(schema: dict[str, Any]) -> None:
        change(schema)
        schema["content"]["content"] = {"note_": booster, **schema["content"]["content"]}

    rewrite(tmp_path / "good.skops", tmp_path / "bad.skops", with_note)
    assert changed

    with pytest.raises(UnsafeCheckpoint, match=r"functools\.partial"):
        estimators.read(tmp_path / "bad.skops")


def test_partials_of_one_function_are_taken(tmp_path: Path) -> None:
    skops.io.dump(_two_with_categories(), tmp_path / "model.skops")

    assert isinstance(estimators.read(tmp_path / "model.skops"), VotingClassifier)


@pytest.mark.parametrize("hide", [lambda one: defaultdict(one), lambda one: slice(one)])
def test_a_function_is_found_wherever_it_hides(hide: Callable[[Any], Any]) -> None:
    estimator = DecisionTreeClassifier().fit(X, Y)
    estimator.note_ = hide(partial(lightgbm.Booster, model_file="other.txt"))

    with pytest.raises(UnsafeCheckpoint, match="a function with arguments"):
        native_state.check(estimator)


def test_a_dictionary_may_have_a_default() -> None:
    estimator = DecisionTreeClassifier().fit(X, Y)
    estimator.note_ = defaultdict(dict, one={})

    native_state.check(estimator)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "a*a*a*a*b", r"(?u)\b\w+\w+\b", "[a]+[b]+", r"(\w|a)+", "a{9}{9}"]
)
def test_a_pattern_that_never_finishes_is_refused(pattern: str) -> None:
    with pytest.raises(UnsafeCheckpoint, match="token_pattern"):
        native_state.check(CountVectorizer(token_pattern=pattern))


@pytest.mark.parametrize(
    "pattern",
    [CountVectorizer().token_pattern, r"\b\w+\b", r"(?u)\b[a-zA-Z]{3,}\b", r"\S+", r"[\w'-]+", None],
)
def test_a_pattern_of_one_repetition_is_taken(pattern: str | None) -> None:
    native_state.check(CountVectorizer(token_pattern=pattern))


class Witness(ClassifierMixin, BaseEstimator):
    """Notes how joblib would run its work."""

    backends: list[str] = []  # noqa: RUF012 - of all instances

    def fit(self, rows: Any, labels: Any) -> "Witness":
        self.classes_, self.n_features_in_ = np.unique(labels), rows.shape[1]
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._note()

    def predict(self, rows: Any) -> Any:
        self._note()
        return np.zeros(len(rows), int)

    def decision_function(self, rows: Any) -> Any:
        self._note()
        return np.zeros((len(rows), len(self.classes_)))

    def _note(self) -> None:
        self.backends.append(type(get_active_backend()[0]).__name__)


def test_an_estimator_is_read_and_asked_in_one_process(tmp_path: Path) -> None:
    joblib.dump(Witness().fit(X, Y), tmp_path / "model.pkl")
    Witness.backends.clear()

    estimator = estimators.read(tmp_path / "model.pkl", Trust(unsafe_checkpoints=True))
    assert Witness.backends == ["SequentialBackend"]
    estimators.as_source(estimator)

    assert len(Witness.backends) > 1
    assert set(Witness.backends) == {"SequentialBackend"}
