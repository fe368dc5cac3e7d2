"""The rows that an estimator was fitted on, if it stores them to search for nearest neighbours.

Several neighbours are equally near around such rows, for example in counts or numbers with few digits. A
random row has a single nearest neighbour.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .columns import keeps_values, members
from .splits import NOT_INVERTED, transformed, untransformed

Rows = npt.NDArray[np.floating[Any]]
_MOST_ROWS = 256


def rows(estimator: Any, typical: Rows, random: np.random.Generator) -> list[Rows]:
    """Return some of the stored rows, as the estimator takes them; for an imputer, also with a gap."""
    found = []
    for part, steps, columns in _searches(estimator):
        points = np.asarray(part._fit_X, np.float64)
        chosen = points[np.sort(random.permutation(len(points))[:_MOST_ROWS])]
        if hasattr(part, "missing_values"):
            masked = chosen.copy()
            places = np.arange(len(masked))
            masked[places, places % masked.shape[1]] = part.missing_values
            chosen = np.concatenate([chosen, masked])
        try:
            start = np.asarray(transformed(steps, typical), np.float64)
            start = start[np.arange(len(chosen)) % len(start)]
            start[:, slice(None) if columns is None else columns] = chosen
            found.append(untransformed(steps, start, typical.dtype))
        except NOT_INVERTED:
            continue
    return found


def _searches(
    part: Any, steps: tuple[Any, ...] = (), columns: npt.NDArray[np.int64] | None = None
) -> Iterator[tuple[Any, tuple[Any, ...], npt.NDArray[np.int64] | None]]:
    """Yield each part that stores rows, the steps before it, and the columns that it reads (None: all)."""
    if part is None or isinstance(part, str):
        return
    for _, step in getattr(part, "steps", None) or ():
        yield from _searches(step, steps, columns)
        steps += () if keeps_values(step) else (step,)
    if isinstance(getattr(part, "_fit_X", None), np.ndarray):
        yield part, steps, columns
    elif not getattr(part, "steps", None):
        for member, chosen in members(part):
            narrowed = chosen if columns is None or chosen is None else columns[chosen]
            yield from _searches(member, steps, columns if narrowed is None else narrowed)
