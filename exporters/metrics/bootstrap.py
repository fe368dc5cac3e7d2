"""Bootstrap intervals: the metrics of random samples of the rows, drawn with replacement."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from . import Tally

RESAMPLES = 1000
_FEWEST = 50
_DRAWS = 500_000_000  # rows that all samples together draw: about ten seconds
_TAIL = 2.5  # per cent on each side


def resampled(
    tallies: Sequence[Tally], names: Sequence[str], seed: int
) -> list[Mapping[str, npt.NDArray[np.float64]]]:
    """Return, for each tally, metric → float64[samples]; all tallies get the same samples of rows."""
    random = np.random.default_rng(seed)
    rows = tallies[0].rows
    most = affordable(RESAMPLES, _DRAWS, rows)
    count = min(tally.resamples(most) for tally in tallies)
    found: list[dict[str, npt.NDArray[np.float64]]] = [
        {name: np.empty(count) for name in names} for _ in tallies
    ]
    for number in range(count):
        counts = np.bincount(random.integers(0, rows, rows), minlength=rows)
        for tally, values in zip(tallies, found, strict=True):
            for name, value in tally.resampled(names, counts).items():
                values[name][number] = value
    return list(found)


def affordable(most: int, budget: int, each: int) -> int:
    """Return how many samples of the cost ``each`` the budget allows: at most ``most``, at least _FEWEST."""
    return min(most, max(_FEWEST, budget // max(1, each)))


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    """Return the middle 95 % as [low, high]."""
    low, high = np.percentile(values, [_TAIL, 100 - _TAIL])
    return [float(low), float(high)]
