"""A fitted estimator's knowledge of its input columns: categories, and values where its output changes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .fitted import is_passthrough

Numbers = npt.NDArray[np.float64]
_MOST_BOUNDS = 64  # of one column
_NONE = np.empty(0)


@dataclass
class Column:
    """``codes``: the categories of an encoder or a booster. ``bounds``: of scalers, binners, imputers."""

    codes: Numbers = field(default_factory=lambda: _NONE)
    bounds: Numbers = field(default_factory=lambda: _NONE)


def known(estimator: Any, width: int) -> list[Column]:
    """Return what the parts that read the ``width`` input columns know about each column."""
    found = [Column() for _ in range(width)]
    for part, columns in _seen(estimator, np.arange(width)):
        for place, values in _codes(part, len(columns)):
            column = found[columns[place]]
            column.codes = _merged(column.codes, values)
        for place, values in _bounds(part, len(columns)):
            column = found[columns[place]]
            column.bounds = _merged(column.bounds, values)
    return found


def with_codes(rows: npt.NDArray[Any], columns: list[Column], seed: int = 0) -> npt.NDArray[Any]:
    """Return the rows with a known category in each column that has categories."""
    random = np.random.default_rng(seed)
    rows = rows.copy()
    for place, column in enumerate(columns):
        if len(column.codes):
            rows[:, place] = random.choice(column.codes, len(rows))
    return rows


def members(estimator: Any) -> list[tuple[Any, Any]]:
    """Return the fitted estimators inside a search, a vote, a bag ..., each with its columns or None.

    The list is empty for an estimator that computes by itself. A member whose columns are None reads all of
    them.
    """
    state = getattr(estimator, "__dict__", {})
    for name in ("best_estimator_", "regressor_"):
        if name in state:
            return [(state[name], None)]
    if type(estimator).__name__ == "FrozenEstimator":
        return [(state["estimator"], None)]
    if "estimator_" in state:
        support = state.get("support_")
        return [(state["estimator_"], support if isinstance(support, np.ndarray) else None)]
    if "calibrated_classifiers_" in state:
        return [(one.estimator, None) for one in state["calibrated_classifiers_"]]
    if "transformer_list" in state:
        return [(one, None) for _, one in state["transformer_list"]]
    if "transformers_" in state:
        places = state.get("_transformer_to_input_indices", {})
        return [
            (one, np.asarray(places[name], int)) for name, one, _ in state["transformers_"] if name in places
        ]
    fitted = state.get("estimators_")
    if isinstance(fitted, (list, np.ndarray)) and len(fitted):
        flat = list(np.asarray(fitted, dtype=object).ravel()) if isinstance(fitted, np.ndarray) else fitted
        columns = state.get("estimators_features_") or [None] * len(flat)
        return [
            (one[1] if isinstance(one, tuple) else one, chosen)
            for one, chosen in zip(flat, columns, strict=False)
        ]
    return []


def table_readers(part: Any) -> Iterator[Any]:
    """Yield each part that reads the whole table: a pipeline, its first step, the members of a vote ..."""
    if part is None or isinstance(part, str):
        return
    yield part
    if getattr(part, "steps", None):
        yield from table_readers(next((step for _, step in part.steps if not is_passthrough(step)), None))
    elif not selects(part):
        for member, columns in members(part):
            if columns is None:
                yield from table_readers(member)


def selects(part: Any) -> bool:
    """Return whether a part is a fitted column transformer."""
    return hasattr(part, "transformers_")


def keeps_values(step: Any) -> bool:
    """Return whether a step passes the rows on unchanged, except for missing values."""
    if step is None or isinstance(step, str):
        return True
    kind, state = type(step).__name__, getattr(step, "__dict__", {})
    if kind == "FunctionTransformer":
        return state.get("func") is None
    return kind in ("SimpleImputer", "KNNImputer", "IterativeImputer") and not state.get("add_indicator")


def _seen(part: Any, columns: npt.NDArray[np.int64]) -> Iterator[tuple[Any, npt.NDArray[np.int64]]]:
    """Yield each fitted part that reads input columns unchanged, with the indices of these columns."""
    if part is None or isinstance(part, str):
        return
    steps = getattr(part, "steps", None)
    if steps:
        for _, step in steps:
            yield from _seen(step, columns)
            if not keeps_values(step):
                return
        return
    yield part, columns
    before = getattr(part, "_preprocessor", None)  # of histogram gradient boosting with categories
    inside = [(before, None)] if before is not None else members(part)
    for member, chosen in inside:
        yield from _seen(member, columns if chosen is None else columns[chosen])


def _codes(part: Any, width: int) -> Iterator[tuple[int, Numbers]]:
    kind, state = type(part).__name__, getattr(part, "__dict__", {})
    categories = state.get("categories_")
    if isinstance(categories, list) and len(categories) == width:
        for place, values in enumerate(categories):
            if np.asarray(values).dtype.kind in "fiub":
                yield place, np.asarray(values, np.float64)
    bins = state.get("_bin_mapper")
    if bins is not None and state.get("_preprocessor") is None and len(bins.bin_thresholds_) == width:
        for place in np.flatnonzero(bins.is_categorical_).tolist():
            yield place, np.asarray(bins.bin_thresholds_[place], np.float64)
    if kind.startswith("LGBM"):
        yield from _lightgbm(part.booster_)
    elif kind.startswith("XGB"):
        yield from _xgboost(part.get_booster())


def _lightgbm(booster: Any) -> Iterator[tuple[int, Numbers]]:
    """Parse a model's text: a numeric column is ``[smallest:largest]``, a categorical one ``0:1:2``."""
    text = booster.model_to_string(num_iteration=1)
    line = next((one for one in text.splitlines() if one.startswith("feature_infos=")), "feature_infos=")
    for place, info in enumerate(line.partition("=")[2].split()):
        if info[0] not in "[n":
            codes = np.array([float(one) for one in info.split(":")])
            yield place, codes[codes >= 0]


def _xgboost(booster: Any) -> Iterator[tuple[int, Numbers]]:
    import json

    kinds = booster.feature_types or []
    if "c" not in kinds:
        return
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    most = [0] * len(kinds)
    for tree in model.get("gbtree", model).get("model", {}).get("trees", ()):
        columns = np.asarray(tree["split_indices"], int)
        for node, start, size in zip(
            tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
        ):
            column = int(columns[node])
            most[column] = max(most[column], *tree["categories"][start : start + size])
    for place, kind in enumerate(kinds):
        if kind == "c":
            yield place, np.arange(most[place] + 1, dtype=np.float64)


def _bounds(part: Any, width: int) -> Iterator[tuple[int, Numbers]]:
    state = getattr(part, "__dict__", {})
    edges = state.get("bin_edges_")
    if edges is not None and len(edges) == width:
        yield from ((place, np.asarray(one, np.float64)) for place, one in enumerate(edges))
    for name in ("quantiles_", "data_min_", "data_max_"):
        table = state.get(name)
        if isinstance(table, np.ndarray) and table.dtype.kind == "f" and table.shape[-1] == width:
            yield from enumerate(np.atleast_2d(table).astype(np.float64).T)
    for place, spline in enumerate(state.get("bsplines_", ())):
        if place < width:
            yield place, np.asarray(spline.t, np.float64)
    if width == 1 and isinstance(state.get("X_thresholds_"), np.ndarray):
        yield 0, state["X_thresholds_"].astype(np.float64)
    names = ("threshold",) if type(part).__name__ == "Binarizer" else ("missing_values",)
    for name in names:
        value = state.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield from ((place, np.array([float(value)])) for place in range(width))


def _merged(have: Numbers, values: Numbers) -> Numbers:
    found = np.unique(np.concatenate([have, values[np.isfinite(values)]]))
    if len(found) > _MOST_BOUNDS and (found != np.round(found)).any():
        found = found[np.linspace(0, len(found) - 1, _MOST_BOUNDS).round().astype(int)]
    return found
