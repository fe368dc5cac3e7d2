"""The rows that reach a node of a fitted tree, as the values of each column that lead to the node."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .trees import LEAF, LIGHTGBM_ZERO, Tree


class Interval(NamedTuple):
    """The values of a column that lead to a node: above ``low``, up to ``high``; NaN too if ``missing``."""

    low: float = -np.inf
    high: float = np.inf
    missing: bool = True

    def has(self, value: float) -> bool:
        return self.low < value <= self.high

    def inside(self) -> float:
        if self.low >= self.high and self.missing:
            return np.nan
        if np.isfinite(self.low) and np.isfinite(self.high):
            return self.low + (self.high - self.low) / 2
        if np.isfinite(self.low):
            return self.low + max(1.0, abs(self.low)) / 2
        return self.high - max(1.0, abs(self.high)) / 2 if np.isfinite(self.high) else 0.0


class Categories(NamedTuple):
    """The categories of a column that lead to a node: of ``listed`` (None: any), those not in ``without``."""

    listed: frozenset[int] | None = None
    without: frozenset[int] = frozenset()
    missing: bool = True

    def has(self, value: float) -> bool:
        return value >= 0 and value not in self.without and (self.listed is None or value in self.listed)

    def inside(self) -> float:
        if self.listed is None:
            return float(next(code for code in range(len(self.without) + 1) if code not in self.without))
        return float(min(self.listed - self.without, default=np.nan))


def paths(tree: Tree) -> list[dict[int, Interval | Categories]]:
    """Return the conditions from the root to each node, in preorder. A left child follows its parent."""
    found: list[dict[int, Interval | Categories]] = [{} for _ in tree.feature]
    features, rights = tree.feature.tolist(), tree.right.tolist()
    for node in np.flatnonzero(tree.feature != LEAF).tolist():
        column = features[node]
        for left, child in ((True, node + 1), (False, rights[node])):
            found[child] = {**found[node], column: _narrowed(tree, node, left, found[node].get(column))}
    return found


def _narrowed(
    tree: Tree, node: int, left: bool, before: Interval | Categories | None
) -> Interval | Categories:
    """Return the part of ``before`` that goes to one side of a node."""
    missing = (before is None or before.missing) and bool(tree.missing_left[node]) == left
    if node not in tree.categories:
        low, high, _ = before if isinstance(before, Interval) else Interval()
        threshold = float(tree.threshold[node])
        if left:
            return Interval(low, min(high, threshold), missing)
        return Interval(max(low, threshold), high, missing)
    listed, without, _ = before if isinstance(before, Categories) else Categories()
    codes = frozenset(tree.categories[node].tolist())
    if left == tree.listed_left:
        return Categories(codes if listed is None else listed & codes, without, missing)
    return Categories(listed, without | codes, missing)


def reached(splits: list[tuple[Tree, int]], given: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Return for each node whether one of its own rows, float64[nodes, rows, columns], reaches it."""
    trees = list({id(tree): tree for tree, _ in splits}.values())
    starts = np.cumsum([0, *(len(tree.feature) for tree in trees)])
    start_of = {id(tree): int(start) for tree, start in zip(trees, starts, strict=False)}
    table = _Table(trees, starts)
    narrow = np.repeat(np.array([tree.compares == "float32" for tree, _ in splits]), given.shape[1])
    values = given.reshape(-1, given.shape[2])
    with np.errstate(over="ignore"):
        values = np.where(narrow[:, None], values.astype(np.float32).astype(np.float64), values)
    at = np.repeat(np.array([start_of[id(tree)] for tree, _ in splits]), given.shape[1])
    wanted = np.repeat(np.array([start_of[id(tree)] + node for tree, node in splits]), given.shape[1])
    passed = at == wanted
    moving = np.flatnonzero(~passed & (table.feature[at] != LEAF))
    while len(moving):
        at[moving] = table.next(at[moving], values[moving, table.feature[at[moving]]])
        passed[moving] = at[moving] == wanted[moving]
        moving = moving[~passed[moving] & (table.feature[at[moving]] != LEAF)]
    found: npt.NDArray[np.bool_] = passed.reshape(len(splits), -1).any(axis=1)
    return found


class _Table:
    """The nodes of several trees, concatenated."""

    def __init__(self, trees: list[Tree], starts: npt.NDArray[np.int64]) -> None:
        self.feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._missing_left = np.concatenate([tree.missing_left for tree in trees])
        self._zero_missing = np.concatenate([tree.zero_missing for tree in trees])
        self._right = np.concatenate([tree.right + start for tree, start in zip(trees, starts, strict=False)])
        self._strict = np.concatenate([np.full(len(tree.feature), tree.strict) for tree in trees])
        listing = [
            (start + node, codes, tree.listed_left)
            for tree, start in zip(trees, starts, strict=False)
            for node, codes in tree.categories.items()
        ]
        # Row 0 belongs to the nodes that compare numbers.
        most = max((int(codes.max(initial=0)) for _, codes, _ in listing), default=0)
        self._left = np.zeros((len(listing) + 1, most + 2), bool)
        self._row = np.zeros(len(self.feature), np.int64)
        for row, (place, codes, listed_left) in enumerate(listing, 1):
            self._row[place] = row
            self._left[row] = not listed_left
            self._left[row, codes] = listed_left

    def next(self, node: npt.NDArray[np.int64], value: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return, for each node, the child to which its value leads."""
        missing = np.isnan(value) | (self._zero_missing[node] & (np.abs(value) <= LIGHTGBM_ZERO))
        threshold, row = self._threshold[node], self._row[node]
        below = np.where(self._strict[node], value < threshold, value <= threshold)
        past = self._left.shape[1] - 1
        code = np.where((value >= 0) & (value < past), value, past).astype(np.int64)
        below = np.where(row > 0, self._left[row, code], below)
        return np.where(np.where(missing, self._missing_left[node], below), node + 1, self._right[node])
