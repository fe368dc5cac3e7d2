"""Draw rows of the range that an estimator was fitted on: standard normal rows take one branch of a tree.

The fitted state shows the range of each column: the means of a scaler, the thresholds of trees, the points of
a neighbour search.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .fitted import is_passthrough, parts

_MARGIN = 0.1  # beyond the smallest and the largest known value, as a share of their distance
Pairs = tuple[npt.NDArray[Any], npt.NDArray[Any]]


def typical_rows(bounds: Pairs, count: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return float64[count, columns], uniform within each column's bounds; standard normal without bounds."""
    low, high = bounds
    random = np.random.default_rng(seed)
    rows = random.standard_normal((count, len(low)))
    known = np.isfinite(low) & np.isfinite(high)
    span = np.where(high > low, high - low, 1.0)
    uniform = low - _MARGIN * span + random.random(rows.shape) * span * (1 + 2 * _MARGIN)
    return np.where(known, uniform, rows)


def known_bounds(estimator: Any, width: int) -> Pairs:
    """Return the smallest and the largest known value of each column; infinite if none is known."""
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    for columns, values in _values(_first(estimator)):
        fits = (columns >= 0) & (columns < width) & np.isfinite(values) & (np.abs(values) < 1e30)
        np.minimum.at(low, columns[fits], values[fits])
        np.maximum.at(high, columns[fits], values[fits])
    return low, high


def _first(estimator: Any) -> Any:
    """Return the step that reads the input columns unchanged."""
    steps = getattr(estimator, "steps", None)
    while steps:
        estimator = next((step for _, step in steps if not is_passthrough(step)), None)
        steps = getattr(estimator, "steps", None)
    return estimator


def _values(first: Any) -> Iterator[Pairs]:
    """Yield (columns, values that occur in them)."""
    for part in parts(first):
        kind = type(part).__name__
        state = getattr(part, "__dict__", {})
        if kind == "StandardScaler" and state.get("mean_") is not None:
            spread = 2.5 * np.sqrt(part.var_) if part.var_ is not None else 1.0
            yield from map(_rows, (part.mean_ - spread, part.mean_ + spread))
        elif kind == "Tree":
            nodes = part.__getstate__()["nodes"]
            yield nodes["feature"].astype(int), nodes["threshold"]
        elif kind == "TreePredictor":
            inner = part.nodes[part.nodes["is_leaf"] == 0]
            yield inner["feature_idx"].astype(int), inner["num_threshold"].astype(float)
        elif kind.startswith("LGBM"):
            yield from _lightgbm(part.booster_)
        elif kind.startswith("XGB"):
            yield from _xgboost(part)
        elif "bsplines_" in state:
            yield from _splines(part)
        for name in (
            "data_min_",
            "data_max_",
            "_fit_X",
            "support_vectors_",
            "cluster_centers_",
            "means_",
            "theta_",
        ):
            value = state.get(name)
            if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim in (1, 2):
                yield _rows(value)


def _rows(values: Any) -> Pairs:
    table = np.atleast_2d(np.asarray(values, dtype=float))
    return np.tile(np.arange(table.shape[1]), len(table)), table.ravel()


def _splines(transformer: Any) -> Iterator[Pairs]:
    """Return the outer knots; if rows beyond them are rejected, values whose margin ends there."""
    ends = np.array([[one.t[one.k], one.t[-one.k - 1]] for one in transformer.bsplines_]).T
    if transformer.extrapolation == "error":
        ends += np.array([[1.0], [-1.0]]) * (ends[1] - ends[0]) * _MARGIN
    yield _rows(ends)


def _lightgbm(booster: Any) -> Iterator[Pairs]:
    infos = booster.dump_model(num_iteration=1)["feature_infos"]
    for column, name in enumerate(booster.feature_name()):
        if name in infos:
            yield (
                np.array([column, column]),
                np.array([infos[name]["min_value"], infos[name]["max_value"]], float),
            )


def _xgboost(estimator: Any) -> Iterator[Pairs]:
    model = json.loads(bytes(estimator.get_booster().save_raw("json")))["learner"]["gradient_booster"]
    for tree in model.get("model", {}).get("trees", ()):
        inner = np.array(tree["left_children"]) != -1
        yield np.array(tree["split_indices"])[inner], np.array(tree["split_conditions"], float)[inner]
