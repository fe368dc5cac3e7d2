"""Rows on both sides of each split of an estimator's trees.

The rows of a split satisfy the conditions from the root to it. On a large forest, only one random row in a
hundred with a single threshold set reaches its node.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .columns import keeps_values, members
from .paths import Categories, Interval, paths, reached
from .trees import LEAF, Tree, fitted_trees

Rows = npt.NDArray[np.floating[Any]]
_MOST_SPLITS = 10_000  # with rows of their own
_FEW_SPLITS = 3_000  # up to this number, each split has several rows
# Per split, each from another row: both sides of a split may return the same output for one row
_MOST_TURNS = 12
_MOST_CODES = 10_000  # pairs of a split and a category
NOT_INVERTED = (AttributeError, IndexError, TypeError, ValueError)


class _Encoder:
    """The encoder of histogram gradient boosting, which puts categories first, with its inverse."""

    def __init__(self, columns: Any) -> None:
        self._columns = columns
        self._numbers = columns._transformer_to_input_indices["numerical"]
        self._codes = columns._transformer_to_input_indices["encoder"]
        self._categories = columns.named_transformers_["encoder"].categories_

    def transform(self, rows: Rows) -> Any:
        return self._columns.transform(rows)

    def inverse_transform(self, rows: Rows) -> Rows:
        """Return the rows before encoding. A code above the last category's becomes an unknown category."""
        found = np.empty_like(rows)
        found[:, self._numbers] = rows[:, len(self._codes) :]
        for place, known in enumerate(self._categories):
            known = np.asarray(known, np.float64)
            known = np.append(known, np.nanmax(known, initial=0.0) + 1)
            codes = np.nan_to_num(rows[:, place], nan=0.0).clip(0, len(known) - 1).astype(int)
            found[:, self._codes[place]] = np.where(np.isnan(rows[:, place]), np.nan, known[codes])
        return found


@dataclass(frozen=True)
class _Group:
    """Trees that read the ``columns`` (None: all) of the rows after the same ``steps``.

    ``missing``: their estimator accepts missing values.
    """

    steps: tuple[Any, ...]
    columns: npt.NDArray[np.int64] | None
    trees: list[Tree]
    missing: bool


@dataclass
class Reaching:
    """Rows that reach splits: around a threshold, at a missing value, with listed and other categories."""

    boundary: list[Rows]
    missing: list[Rows]
    categories: list[Rows]
    splits: int = 0
    reached: int = 0


def rows(estimator: Any, typical: Rows, random: np.random.Generator) -> Reaching:
    """Return rows of ``typical``'s dtype, the number of splits, and how many their own rows reach."""
    groups = [group for group in _groups(estimator) if group.trees]
    found = Reaching([typical[:0]], [typical[:0]], [typical[:0]])
    found.splits = sum(_splits(group) for group in groups)
    for group in groups:
        _of_group(group, typical, random, _splits(group) / max(1, found.splits), found)
    return found


def _splits(group: _Group) -> int:
    return sum(int((tree.feature != LEAF).sum()) for tree in group.trees)


def _groups(
    estimator: Any, steps: tuple[Any, ...] = (), columns: npt.NDArray[np.int64] | None = None
) -> Iterator[_Group]:
    while getattr(estimator, "steps", None):
        *before, (_, estimator) = estimator.steps
        steps += tuple(step for _, step in before if not keeps_values(step))
    if getattr(estimator, "_preprocessor", None) is not None:
        steps += (_Encoder(estimator._preprocessor),)
    inside = members(estimator)
    if not any(
        getattr(part, "steps", None) or members(part) or chosen is not None for part, chosen in inside
    ):
        yield _Group(steps, columns, list(fitted_trees(estimator)), _takes_missing(estimator))
        return
    for part, chosen in inside:
        if part is not None and not isinstance(part, str):
            narrowed = chosen if columns is None or chosen is None else columns[chosen]
            yield from _groups(part, steps, columns if narrowed is None else narrowed)


def _takes_missing(estimator: Any) -> bool:
    """Return scikit-learn's tag; True for an estimator without tags, such as a library's own booster."""
    tags = getattr(estimator, "__sklearn_tags__", None)
    return tags is None or bool(tags().input_tags.allow_nan)


class _Split(NamedTuple):
    tree: Tree
    node: int
    path: dict[int, Interval | Categories]


def _of_group(
    group: _Group, typical: Rows, random: np.random.Generator, share: float, found: Reaching
) -> None:
    """Add rows to ``found``. If a step cannot be inverted, add none, because its rows are unknown."""
    try:
        start = np.asarray(transformed(group.steps, typical), np.float64)
    except ValueError:  # the step does not accept values of this range
        return
    columns = np.arange(start.shape[1]) if group.columns is None else np.asarray(group.columns)
    if columns.max(initial=-1) >= start.shape[1]:  # counts of terms, which ``typical`` does not have
        return
    trees = [tree for tree in group.trees if tree.feature.max(initial=-1) < len(columns)]
    chosen = _chosen(trees, random, max(1, int(share * _MOST_SPLITS)))
    numeric = [one for one in chosen if one.node not in one.tree.categories]
    listing, codes = _codes(chosen, random, int(share * _MOST_CODES))
    thresholds = np.array([one.tree.threshold[one.node] for one in numeric])
    met = set()
    for splits, values, most, into in (
        (numeric, _around(thresholds, typical.dtype), _FEW_SPLITS, found.boundary),
        (listing, codes[:, None], _MOST_CODES, found.categories),
        (chosen if group.missing else [], np.full((len(chosen), 1), np.nan), _FEW_SPLITS, found.missing),
    ):
        if not splits:
            continue
        turns = max(1, min(_MOST_TURNS, int(share * most) // len(splits)))
        made = _made(splits, values, turns, start, columns)
        try:
            given = untransformed(group.steps, made.reshape(-1, made.shape[2]), typical.dtype)
            again = None if into is found.missing else transformed(group.steps, given[: values.size])
        except NOT_INVERTED:  # a step has no inverse, or none for these rows, for example with missing values
            continue
        into.append(given)
        if again is not None:
            seen = np.asarray(again, np.float64)[:, columns].reshape(*values.shape, -1)
            passed = reached([(one.tree, one.node) for one in splits], seen)
            met |= {(id(one.tree), one.node) for one, has in zip(splits, passed, strict=True) if has}
    found.reached += len(met)


def _made(
    splits: list[_Split],
    values: npt.NDArray[np.float64],
    turns: int,
    start: npt.NDArray[np.float64],
    columns: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return rows that reach each split, with its ``values`` [splits, k].

    The result is float64[turns * splits, k, columns].
    """
    made = np.empty((turns * len(splits), values.shape[1], start.shape[1]), np.float64)
    for number in range(len(made)):
        tree, node, path = splits[number % len(splits)]
        row = start[number % len(start)].copy()
        for column, condition in path.items():
            place = columns[column]
            if not condition.has(row[place]):
                row[place] = condition.inside()
        made[number] = row
        made[number, :, columns[tree.feature[node]]] = values[number % len(splits)]
    return made


def _codes(
    chosen: list[_Split], random: np.random.Generator, most: int
) -> tuple[list[_Split], npt.NDArray[np.float64]]:
    """Combine each split by categories with its listed codes, the codes between them, and the next one.

    If there are too many pairs, a seeded selection of them is returned.
    """
    pairs = []
    for one in chosen:
        if one.node in one.tree.categories:
            listed = one.tree.categories[one.node]
            past = int(listed.max(initial=-1)) + 1
            others = range(past + 1) if past < most else (0, *(listed + 1).tolist())
            pairs += [(one, code) for code in sorted({*listed.tolist(), *others})]
    if len(pairs) > most:
        kept = np.sort(random.choice(len(pairs), most, replace=False))
        pairs = [pairs[place] for place in kept]
    return [one for one, _ in pairs], np.array([code for _, code in pairs], np.float64)


def _chosen(trees: list[Tree], random: np.random.Generator, most: int) -> list[_Split]:
    """Return every split with its path, or a seeded selection if there are too many."""
    places = [(tree, node) for tree in trees for node in np.flatnonzero(tree.feature != LEAF).tolist()]
    if len(places) > most:
        kept = np.sort(random.choice(len(places), most, replace=False))
        places = [places[place] for place in kept]
    ways = {id(tree): paths(tree) for tree in trees}
    return [_Split(tree, node, ways[id(tree)][node]) for tree, node in places]


def _around(thresholds: npt.NDArray[np.float64], dtype: Any) -> npt.NDArray[np.float64]:
    """Return float64[N, k]: the float32 at or below each threshold, and its neighbours.

    For float64 rows, the threshold itself and its float64 neighbours are added.
    """
    narrow = np.clip(thresholds, -3e38, 3e38).astype(np.float32)
    below = np.where(narrow > thresholds, np.nextafter(narrow, np.float32(-np.inf)), narrow)
    found = [below, *(np.nextafter(below, np.float32(toward)) for toward in (np.inf, -np.inf))]
    if dtype == np.float64:
        found += [thresholds, *(np.nextafter(thresholds, toward) for toward in (np.inf, -np.inf))]
    return np.stack([one.astype(np.float64) for one in found], axis=1)


def transformed(steps: tuple[Any, ...], rows: Rows) -> Any:
    """Return the dense rows after the steps."""
    values: Any = rows.astype(np.float64)
    for step in steps:
        values = step.transform(values)
    return values.toarray() if hasattr(values, "toarray") else values


def untransformed(steps: tuple[Any, ...], rows: npt.NDArray[np.float64], dtype: Any) -> Rows:
    """Return the rows before the steps. Raises NOT_INVERTED if a step has no inverse for these rows."""
    values: Any = rows
    for step in reversed(steps):
        values = step.inverse_transform(values)
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(dtype)
