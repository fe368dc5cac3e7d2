"""Rows on which an artefact and its estimator are compared, made from what the fitted estimator knows.

Each class of rows reaches what random rows miss: the two sides of every split, missing values, zeros. The
rows of a split follow the path from the root to it: on a large forest a random row with one threshold set
reaches its node in one case of a hundred.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .trees import LEAF, Tree, fitted_trees

Rows = npt.NDArray[np.float32]
_MOST_SPLITS = 16_000  # of four rows each
_MOST_TURNS = 12  # of one split, each from another row: both its sides may answer one row alike
_MOST_COLUMNS = 256  # of which each has rows of its own
_MASKED_ROWS = 64
_MASKED_SHARE = 0.3
_DENORMAL = np.float32(1e-40)


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


def classes(estimator: Any, typical: Rows, seed: int = 0) -> Iterator[tuple[str, Rows]]:
    """Yield float32[N, columns] by the name of their class. A class that the estimator rejects is no probe.

    ``typical``, rows of the range that the estimator was fitted on, come first.
    """
    random = np.random.default_rng(seed)
    yield "typical", typical
    boundary, missing = _splits(estimator, typical, random)
    if len(boundary):
        yield "boundary", boundary
    yield "missing", np.concatenate([_missing(typical, random), missing])
    yield "zero", _zeros(typical)
    yield "denormal", _one_at_a_time(typical, _DENORMAL)


def _one_at_a_time(typical: Rows, value: Any) -> Rows:
    """A row for each column with ``value`` there, and one with nothing else."""
    width = typical.shape[1]
    columns = np.arange(min(width, _MOST_COLUMNS))
    rows = typical[columns % len(typical)].copy()
    rows[columns, columns] = value
    return np.concatenate([rows, np.full((1, width), value, np.float32)])


def _missing(typical: Rows, random: np.random.Generator) -> Rows:
    masked = typical[:_MASKED_ROWS].copy()
    masked[random.random(masked.shape) < _MASKED_SHARE] = np.nan
    return np.concatenate([_one_at_a_time(typical, np.nan), masked])


def _zeros(typical: Rows) -> Rows:
    return np.concatenate([_one_at_a_time(typical, 0.0), _one_at_a_time(typical, -0.0)])


def _splits(estimator: Any, typical: Rows, random: np.random.Generator) -> tuple[Rows, Rows]:
    """For each split the threshold rounded down and both neighbours of it; and a missing value."""
    steps, trees = _before_trees(estimator)
    chosen = _chosen([tree for tree in trees if steps or tree.width <= typical.shape[1]], random)
    if not chosen:
        return typical[:0], typical[:0]
    start = np.asarray(_transformed(steps, typical), np.float64)
    rows = np.empty((len(chosen), 4, start.shape[1]), np.float64)
    for number, (tree, node, path) in enumerate(chosen):
        row = start[number % len(start)].copy()
        for column, interval in path.items():
            if not interval.low < row[column] <= interval.high:
                row[column] = interval.inside()
        rows[number] = row
        below = _narrow_down(float(tree.threshold[node]))
        neighbours = [np.nextafter(below, np.float32(toward)) for toward in (np.inf, -np.inf)]
        rows[number, :, tree.feature[node]] = below, *neighbours, np.nan
    boundary = _untransformed(steps, rows[:, :3].reshape(-1, start.shape[1]))
    try:
        return boundary, _untransformed(steps, rows[:, 3])
    except ValueError:  # a step before the trees takes no missing value
        return boundary, typical[:0]


def _before_trees(estimator: Any) -> tuple[list[Any], list[Tree]]:
    """The steps of a pipeline before its trees, and the trees; no tree where a step cannot be inverted."""
    steps: list[Any] = []
    while hasattr(estimator, "steps"):
        *before, (_, estimator) = estimator.steps
        steps += [step for _, step in before if step is not None and step != "passthrough"]
    if not all(hasattr(step, "inverse_transform") for step in steps):
        return [], []
    return steps, list(fitted_trees(estimator))


def _chosen(trees: list[Tree], random: np.random.Generator) -> list[tuple[Tree, int, dict[int, _Interval]]]:
    """Every node, or as many as are allowed, seeded; with the interval of each column on the way to it."""
    places = [(tree, node) for tree in trees for node in np.flatnonzero(tree.feature != LEAF).tolist()]
    if len(places) > _MOST_SPLITS:
        kept = np.sort(random.choice(len(places), _MOST_SPLITS, replace=False))
        places = [places[place] for place in kept]
    parents = {id(tree): _parents(tree) for tree in trees}
    found = [(tree, node, _path(tree, node, parents[id(tree)])) for tree, node in places]
    return found * min(_MOST_TURNS, _MOST_SPLITS // max(1, len(found)))


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


def _narrow_down(threshold: float) -> np.float32:
    narrow = np.float32(np.clip(threshold, -3e38, 3e38))
    return narrow if narrow <= threshold else np.nextafter(narrow, np.float32(-np.inf))


def _transformed(steps: list[Any], rows: Rows) -> Any:
    values: Any = rows.astype(np.float64)
    for step in steps:
        values = step.transform(values)
    return values.toarray() if hasattr(values, "toarray") else values


def _untransformed(steps: list[Any], rows: npt.NDArray[np.float64]) -> Rows:
    values: Any = rows
    for step in reversed(steps):
        values = step.inverse_transform(values)
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32)
