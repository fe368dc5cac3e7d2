"""The probes of an estimator: what is made of its fitted state, and what of it is asked."""

from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import (
    BaggingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from exporters.proof import cases
from exporters.sources.estimators import as_source

_RANDOM = np.random.default_rng(0)
NUMBERS = _RANDOM.normal(size=(400, 4)) * 10
KINDS = (NUMBERS[:, 0] > NUMBERS[:, 1]).astype(int)
CODES = np.c_[_RANDOM.choice([3, 5, 11], 400), _RANDOM.integers(0, 4, 400)].astype(float)


def asked(estimator: Any, kind: str, dtype: str = "float32") -> npt.NDArray[Any]:
    """The rows of a class of probes, of those that the estimator takes."""
    found = [case for case in cases.plan(as_source(estimator, dtype)) if case.kind == kind]
    return np.concatenate([case.inputs["input"] for case in found]) if found else np.empty((0, 0))


def test_each_category_is_asked_and_whole_numbers_stay_whole() -> None:
    encoder = OneHotEncoder(handle_unknown="ignore").fit(CODES)

    for kind in ("base", "typical", "categories"):
        assert set(asked(encoder, kind)[:, 0]) <= {3, 5, 11}
    assert set(asked(encoder, "categories")[:, 0]) == {3, 5, 11}
    assert set(asked(encoder, "categories")[:, 1]) == {0, 1, 2, 3}
    assert {2, 4, 12} <= set(asked(encoder, "unknown categories")[:, 0])


def test_a_category_that_the_source_rejects_is_no_probe() -> None:
    strict = make_pipeline(OneHotEncoder(handle_unknown="error"), LogisticRegression()).fit(CODES, KINDS)

    assert len(asked(strict, "unknown categories")) == 0
    assert set(asked(strict, "categories")[:, 0]) == {3, 5, 11}
    assert set(asked(OrdinalEncoder().fit(CODES), "typical")[:, 0]) == {3, 5, 11}


def test_the_categories_of_a_booster_are_asked() -> None:
    model = lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)
    model.fit(CODES, KINDS, categorical_feature=[0, 1])

    assert {3, 5, 11} <= set(asked(model, "categories")[:, 0])
    assert 12 in asked(model, "unknown categories")[:, 0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_ends_of_bins_are_asked_with_both_neighbours(dtype: str) -> None:
    bins = KBinsDiscretizer(3, encode="ordinal").fit(NUMBERS)

    values = set(asked(bins, "bounds", dtype)[:, 0])

    for edge in bins.bin_edges_[0].astype(dtype):
        assert {edge, np.nextafter(edge, edge.dtype.type(np.inf)), np.nextafter(edge, -edge)} <= values


def test_the_value_that_an_imputer_replaces_is_asked() -> None:
    rows = np.where(_RANDOM.random(NUMBERS.shape) < 0.1, -999, NUMBERS)
    imputer = SimpleImputer(missing_values=-999).fit(rows)

    assert (asked(imputer, "bounds") == -999).any(axis=0).all()


def test_numbers_far_outside_and_ties_are_asked() -> None:
    tree = DecisionTreeClassifier(max_depth=2).fit(NUMBERS, KINDS)

    huge = np.float32(1e30)
    extremes, ties = asked(tree, "extremes"), asked(tree, "ties")
    assert all((extremes == value).any(axis=0).all() for value in (huge, -huge))
    assert len(np.unique(ties, axis=0)) < len(ties)
    assert (ties == ties.round()).all(axis=1).any()


def test_only_the_rows_that_the_source_rejects_are_left_out() -> None:
    """Gradient boosting takes no missing value, and this transformer only numbers above zero."""
    positive = PowerTransformer("box-cox").fit(np.abs(NUMBERS) + 1)

    assert len(asked(GradientBoostingRegressor(n_estimators=2).fit(NUMBERS, KINDS), "missing")) == 0
    assert len(asked(positive, "base"))
    assert len(asked(positive, "missing"))
    kept = asked(positive, "extremes")
    assert kept.max() == np.float32(1e30)
    assert kept.min() > 0


NESTED: dict[str, Any] = {
    "forest": RandomForestClassifier(10, random_state=0),
    "scaled forest": make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)),
    "some columns": BaggingClassifier(n_estimators=5, max_features=2, random_state=0),
    "vote": VotingClassifier(
        [("one", DecisionTreeClassifier(max_depth=4)), ("other", RandomForestClassifier(3, random_state=0))],
        voting="soft",
    ),
}


@pytest.mark.parametrize("name", NESTED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_rows_of_a_split_reach_it(name: str, dtype: str) -> None:
    source = as_source(NESTED[name].fit(NUMBERS, KINDS), dtype)

    cases.plan(source)

    assert source.coverage["splits"] > 50
    assert source.coverage["reached"] >= 0.98 * source.coverage["splits"]
