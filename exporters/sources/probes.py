"""Rows on which an artefact and its estimator are compared, derived from the fitted estimator.

Each class of rows covers what random rows miss: both sides of every split, categories, the ends of bins,
missing values, zeros, numbers far outside the range, ties.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from . import points, splits
from .columns import Column, known

Rows = npt.NDArray[np.floating[Any]]
_MOST_COLUMNS = 256  # columns that have rows of their own
_MOST_ROWS = 8_192  # of categories, of bounds
_MASKED_ROWS = 64
_MASKED_SHARE = 0.3
_DENORMALS = {np.dtype(np.float32): (1e-40,), np.dtype(np.float64): (1e-40, 1e-310)}
_HUGE = 1e30
_TIED_ROWS = 32
_FACTORS = (4, 16)  # for a network or a linear model, whose columns have no known range


def classes(
    estimator: Any,
    typical: Rows,
    coverage: dict[str, int] | None = None,
    seed: int = 0,
    width: int | None = None,
) -> Iterator[tuple[str, Rows]]:
    """Yield the name of each class of rows, and its rows in ``typical``'s width and dtype.

    ``typical`` has rows of the range that the estimator was fitted on, and comes first. Rows that the
    estimator rejects are dropped later. ``coverage`` receives the number of splits of trees, and the number
    of splits that their own rows reach. ``width``: the number of columns that the estimator takes, if
    ``typical`` has only the first of them.
    """
    random = np.random.default_rng(seed)
    yield "typical", typical
    reaching = splits.rows(estimator, typical, random)
    if reaching.splits and coverage is not None:
        coverage |= {"splits": reaching.splits, "reached": reaching.reached}
    boundary, categories = (np.concatenate(one) for one in (reaching.boundary, reaching.categories))
    if len(boundary):
        yield "boundary", boundary
    yield "missing", np.concatenate([_missing(typical, random), *reaching.missing])
    yield "zero", _zeros(typical)
    yield "denormal", np.concatenate([_one_at_a_time(typical, one) for one in _DENORMALS[typical.dtype]])
    yield (
        "extremes",
        np.concatenate([_one_at_a_time(typical, _HUGE), _one_at_a_time(typical, -_HUGE)]),
    )
    yield "spread", np.concatenate([typical[:_MASKED_ROWS] * factor for factor in _FACTORS])
    yield "ties", np.concatenate([_ties(typical), *points.rows(estimator, typical, random)])
    columns = known(estimator, width or typical.shape[1])[: typical.shape[1]]
    yield from _of_columns("bounds", typical, map(_bounds, columns), random)
    yield from _of_columns("categories", typical, (column.codes for column in columns), random, categories)
    yield from _of_columns("unknown categories", typical, map(_unknown, columns), random)


def _one_at_a_time(typical: Rows, value: Any) -> Rows:
    """Return a row per column with ``value`` in that column, and one row of nothing else."""
    width = typical.shape[1]
    columns = np.arange(min(width, _MOST_COLUMNS))
    rows = typical[columns % len(typical)].copy()
    rows[columns, columns] = value
    return np.concatenate([rows, np.full((1, width), value, typical.dtype)])


def _missing(typical: Rows, random: np.random.Generator) -> Rows:
    masked = typical[:_MASKED_ROWS].copy()
    masked[random.random(masked.shape) < _MASKED_SHARE] = np.nan
    return np.concatenate([_one_at_a_time(typical, np.nan), masked[np.isnan(masked).any(axis=1)]])


def _zeros(typical: Rows) -> Rows:
    return np.concatenate([_one_at_a_time(typical, 0.0), _one_at_a_time(typical, -0.0)])


def _ties(typical: Rows) -> Rows:
    """Return duplicated rows, rows of whole numbers, and rows whose columns are all equal."""
    some = typical[:_TIED_ROWS]
    equal = np.repeat(some[:, :1], typical.shape[1], axis=1)
    return np.concatenate([some, some, np.round(some), equal])


def _bounds(column: Column) -> npt.NDArray[np.float64]:
    return column.bounds


def _unknown(column: Column) -> npt.NDArray[np.float64]:
    """Return unknown categories: beyond either end, beside one, and in the first gap between two."""
    codes = column.codes
    if not len(codes):
        return codes
    gaps = np.flatnonzero(np.diff(codes) > 1)
    inside = codes[gaps[:1]] + 1
    first, last = codes[0], codes[-1]
    return np.concatenate([[first - 1, first - 0.5, last + 0.5, last + 1, last + 1000, 1e10], inside])


def _of_columns(
    kind: str,
    typical: Rows,
    values: Iterable[npt.NDArray[np.float64]],
    random: np.random.Generator,
    more: Rows | None = None,
) -> Iterator[tuple[str, Rows]]:
    """Yield ``more``, and a typical row for each value of each column; three rows around a bound."""
    pairs: list[tuple[int, npt.NDArray[Any]]] = []
    for column, wanted in enumerate(values):
        found = wanted.astype(typical.dtype)
        if kind == "bounds":
            ends = np.array([np.inf, -np.inf], typical.dtype)
            found = np.concatenate([found, *(np.nextafter(found, end) for end in ends)])
        pairs += [(column, found)] if len(found) else []
    more = typical[:0] if more is None else more
    if not pairs:
        if len(more):
            yield kind, more
        return
    places = np.concatenate([np.full(len(found), column) for column, found in pairs])
    numbers = np.concatenate([found for _, found in pairs])
    if len(places) > _MOST_ROWS:
        kept = np.sort(random.choice(len(places), _MOST_ROWS, replace=False))
        places, numbers = places[kept], numbers[kept]
    rows = typical[np.arange(len(places)) % len(typical)].copy()
    rows[np.arange(len(places)), places] = numbers
    yield kind, np.concatenate([more, rows])
