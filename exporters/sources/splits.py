"""Rows on both sides of each split of an estimator's trees.

The rows of a split follow the path from the root to it: on a large forest a random row with one threshold set
reaches its node in one case of a hundred.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .columns import keeps_values, members
from .trees import LEAF, LIGHTGBM_ZERO, Tree, fitted_trees

Rows = npt.NDArray[np.floating[Any]]
_MOST_SPLITS = 10_000  # with rows of their own
_FEW_SPLITS = 3_000  # up to these, each has rows several times
_MOST_TURNS = 12  # of one split, each from another row: both its sides may answer one row alike


class _Interval(NamedTuple):
    """The values of a column that lead to a node: above ``low``, up to ``high``; NaN too if ``missing``."""

    low: float = -np.inf
    high: float = np.inf
    missing: bool = True

    def inside(self) -> float:
        if self.low >= self.high and self.missing:
            return np.nan
        if np.isfinite(self.low) and np.isfinite(self.high):
            return self.low + (self.high - self.low) / 2
        if np.isfinite(self.low):
            return self.low + max(1.0, abs(self.low)) / 2
        return self.high - max(1.0, abs(self.high)) / 2 if np.isfinite(self.high) else 0.0


@dataclass(frozen=True)
class _Group:
    """Trees that see the rows after the same ``steps``, and of these the ``columns``; None: all."""

    steps: tuple[Any, ...]
    columns: npt.NDArray[np.int64] | None
    trees: list[Tree]


def rows(
    estimator: Any, typical: Rows, random: np.random.Generator, coverage: dict[str, int]
) -> tuple[Rows, Rows]:
    """Return rows around each threshold, and rows with a missing value at each split; of ``typical``'s dtype.

    ``coverage`` receives the number of splits, and of those that their own rows reach.
    """
    groups = [group for group in _groups(estimator) if group.trees]
    splits = sum(int((tree.feature != LEAF).sum()) for group in groups for tree in group.trees)
    reached, parts = 0, []
    for group in groups:
        share = sum(int((tree.feature != LEAF).sum()) for tree in group.trees) / max(1, splits)
        made = _of_group(group, typical, random, share)
        if made is not None:
            parts.append(made[:2])
            reached += made[2]
    if splits:
        coverage |= {"splits": splits, "reached": reached}
    if not parts:
        return typical[:0], typical[:0]
    return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])


def _groups(
    estimator: Any, steps: tuple[Any, ...] = (), columns: npt.NDArray[np.int64] | None = None
) -> Iterator[_Group]:
    while getattr(estimator, "steps", None):
        *before, (_, estimator) = estimator.steps
        steps += tuple(step for _, step in before if not keeps_values(step))
    inside = members(estimator)
    if not any(
        getattr(part, "steps", None) or members(part) or chosen is not None for part, chosen in inside
    ):
        yield _Group(steps, columns, list(fitted_trees(estimator)))
        return
    for part, chosen in inside:
        if part is not None and not isinstance(part, str):
            narrowed = chosen if columns is None or chosen is None else columns[chosen]
            yield from _groups(part, steps, columns if narrowed is None else narrowed)


def _of_group(
    group: _Group, typical: Rows, random: np.random.Generator, share: float
) -> tuple[Rows, Rows, int] | None:
    """None where a step cannot be inverted: its rows are not known."""
    try:
        start = np.asarray(_transformed(group.steps, typical), np.float64)
    except Exception:
        return None
    columns = np.arange(start.shape[1]) if group.columns is None else np.asarray(group.columns)
    trees = [tree for tree in group.trees if tree.feature.max(initial=-1) < len(columns)]
    chosen, turns = _chosen(trees, random, share)
    if not chosen:
        return None
    values = _around(np.array([tree.threshold[node] for tree, node, _ in chosen]), typical.dtype)
    every = values.shape[1] + 1
    made = np.empty((turns * len(chosen), every, start.shape[1]), np.float64)
    for number in range(len(made)):
        tree, node, path = chosen[number % len(chosen)]
        row = start[number % len(start)].copy()
        for column, interval in path.items():
            if not interval.low < row[columns[column]] <= interval.high:
                row[columns[column]] = interval.inside()
        made[number] = row
        made[number, :, columns[tree.feature[node]]] = np.append(values[number % len(chosen)], np.nan)
    try:
        boundary = _untransformed(group.steps, made[:, :-1].reshape(-1, start.shape[1]), typical.dtype)
        again = np.asarray(_transformed(group.steps, boundary[: len(chosen) * (every - 1)]), np.float64)
    except Exception:
        return None
    found = _reached([one[:2] for one in chosen], again[:, columns].reshape(len(chosen), every - 1, -1))
    try:
        return boundary, _untransformed(group.steps, made[:, -1], typical.dtype), found
    except Exception:  # a step before the trees takes no missing value
        return boundary, typical[:0], found


def _chosen(
    trees: list[Tree], random: np.random.Generator, share: float
) -> tuple[list[tuple[Tree, int, dict[int, _Interval]]], int]:
    """Every node, or as many as are allowed, seeded; with the interval of each column on the way to it."""
    places = [(tree, node) for tree in trees for node in np.flatnonzero(tree.feature != LEAF).tolist()]
    most = max(1, int(share * _MOST_SPLITS))
    if len(places) > most:
        kept = np.sort(random.choice(len(places), most, replace=False))
        places = [places[place] for place in kept]
    parents = {id(tree): _parents(tree) for tree in trees}
    turns = int(share * _FEW_SPLITS) // max(1, len(places))
    found = [(tree, node, _path(tree, node, parents[id(tree)])) for tree, node in places]
    return found, max(1, min(_MOST_TURNS, turns))


def _parents(tree: Tree) -> list[int]:
    """The parent of each node in preorder; its left child comes right after it."""
    parents = [-1] * len(tree.feature)
    for node in np.flatnonzero(tree.feature != LEAF).tolist():
        parents[node + 1] = node
        parents[int(tree.right[node])] = node
    return parents


def _path(tree: Tree, node: int, parents: list[int]) -> dict[int, _Interval]:
    """What leads from the root to the node."""
    path: dict[int, _Interval] = {}
    while (parent := parents[node]) >= 0:
        column, threshold = int(tree.feature[parent]), float(tree.threshold[parent])
        left = node == parent + 1
        low, high, missing = path.get(column, _Interval())
        missing = missing and bool(tree.missing_left[parent]) == left
        path[column] = (
            _Interval(low, min(high, threshold), missing)
            if left
            else _Interval(max(low, threshold), high, missing)
        )
        node = parent
    return path


def _around(thresholds: npt.NDArray[np.float64], dtype: Any) -> npt.NDArray[np.float64]:
    """float64[N, k]: the float32 at or below each threshold and its neighbours; of a float64 row the
    threshold itself and its own neighbours too."""
    narrow = np.clip(thresholds, -3e38, 3e38).astype(np.float32)
    below = np.where(narrow > thresholds, np.nextafter(narrow, np.float32(-np.inf)), narrow)
    found = [below, *(np.nextafter(below, np.float32(toward)) for toward in (np.inf, -np.inf))]
    if dtype == np.float64:
        found += [thresholds, *(np.nextafter(thresholds, toward) for toward in (np.inf, -np.inf))]
    return np.stack([one.astype(np.float64) for one in found], axis=1)


def _reached(chosen: list[tuple[Tree, int]], given: npt.NDArray[np.float64]) -> int:
    """How many of the nodes one of their own rows, float64[nodes, rows, columns], passes."""
    trees = list({id(tree): tree for tree, _ in chosen}.values())
    starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])
    start_of = {id(tree): int(start) for tree, start in zip(trees, starts, strict=False)}
    table: Mapping[str, npt.NDArray[Any]] = {
        name: np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("feature", "threshold", "missing_left", "zero_missing")
    }
    right = np.concatenate([tree.right + start for tree, start in zip(trees, starts, strict=False)])
    strict = np.concatenate([np.full(len(tree.feature), tree.strict) for tree in trees])
    narrow = np.repeat(np.array([tree.compares == "float32" for tree, _ in chosen]), given.shape[1])
    values = given.reshape(-1, given.shape[2])
    with np.errstate(over="ignore"):
        values = np.where(narrow[:, None], values.astype(np.float32).astype(np.float64), values)
    at = np.repeat(np.array([start_of[id(tree)] for tree, _ in chosen]), given.shape[1])
    wanted = np.repeat(np.array([start_of[id(tree)] + node for tree, node in chosen]), given.shape[1])
    passed = at == wanted
    moving = np.flatnonzero(~passed & (table["feature"][at] != LEAF))
    while len(moving):
        node = at[moving]
        value = values[moving, table["feature"][node]]
        missing = np.isnan(value) | (table["zero_missing"][node] & (np.abs(value) <= LIGHTGBM_ZERO))
        below = np.where(strict[node], value < table["threshold"][node], value <= table["threshold"][node])
        left = np.where(missing, table["missing_left"][node], below)
        at[moving] = np.where(left, node + 1, right[node])
        passed[moving] = at[moving] == wanted[moving]
        moving = moving[~passed[moving] & (table["feature"][at[moving]] != LEAF)]
    return int(passed.reshape(len(chosen), -1).any(axis=1).sum())


def _transformed(steps: tuple[Any, ...], rows: Rows) -> Any:
    values: Any = rows.astype(np.float64)
    for step in steps:
        values = step.transform(values)
    return values.toarray() if hasattr(values, "toarray") else values


def _untransformed(steps: tuple[Any, ...], rows: npt.NDArray[np.float64], dtype: Any) -> Rows:
    """Raises whatever a step does that cannot be inverted."""
    values: Any = rows
    for step in reversed(steps):
        values = step.inverse_transform(values)
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(dtype)
