"""Find the smallest input on which an artefact and its source differ, for the message of a refusal."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case, Source, copied
from ..errors import as_limit

_MOST_TRIES = 80
_LONGEST_S = 5.0

Check = Callable[[Arrays, Arrays], str | None]
"""``check(expected, actual)``: what is wrong, or None."""


@dataclass
class Failure:
    """Inputs on which source and artefact differ. ``actual`` is None if the artefact fails on them."""

    inputs: Arrays
    expected: Arrays
    actual: Mapping[str, npt.NDArray[Any]] | None
    reason: str


class Shrinker:
    """Shrinks a failing case while it still fails: fewest rows first, then as many zeros as possible.

    Stops after _MOST_TRIES runs or _LONGEST_S seconds and returns the smallest input so far.
    """

    def __init__(self, source: Source, predict: Callable[[Arrays], Arrays], check: Check) -> None:
        self._source = source
        self._predict = predict
        self._check = check
        self._tries = 0
        self._end = time.monotonic() + _LONGEST_S

    def smallest(self, case: Case, row: int | None = None) -> Failure | None:
        """Return the smallest failing input; None if the case does not fail again.

        ``row``: the index of a failing row, if one is known.
        """
        found = self._failing(case.inputs)
        if found is None:
            return None
        found = self._fewest_rows(found, row)
        for name in found.inputs:
            found = self._zeroed(found, name, 0, found.inputs[name].size)
        rounded = {name: _rounded(array) for name, array in found.inputs.items()}
        return self._failing(rounded) or found

    def _failing(self, inputs: Arrays) -> Failure | None:
        """Return the failure on ``inputs``; None if they agree, are rejected, or no more runs are allowed."""
        if self._tries >= _MOST_TRIES or (self._tries and time.monotonic() > self._end):
            return None
        self._tries += 1
        try:
            expected = self._source.reference(copied(inputs))
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            return None
        try:
            actual = self._predict(copied(inputs))
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            return Failure(inputs, expected, None, str(exc).strip()[:300])
        wrong = self._check(expected, actual)
        return Failure(inputs, expected, actual, wrong) if wrong else None

    def _fewest_rows(self, found: Failure, row: int | None) -> Failure:
        batched = [spec.name for spec in self._source.inputs if spec.shape and spec.shape[0] == "batch"]
        if not batched:
            return found
        if row is not None:
            found = self._failing(_rows(found.inputs, batched, row, row + 1)) or found
        while (count := len(found.inputs[batched[0]])) > 1:
            halves = ((0, count // 2), (count // 2, count))
            smaller = (self._failing(_rows(found.inputs, batched, *half)) for half in halves)
            better = next((one for one in smaller if one is not None), None)
            if better is None:
                break
            found = better
        return found

    def _zeroed(self, found: Failure, name: str, start: int, end: int) -> Failure:
        """Set as many elements of an input to zero as possible, by halves."""
        values = found.inputs[name].reshape(-1)
        if start >= end or not values[start:end].any():
            return found
        changed = values.copy()
        changed[start:end] = 0
        better = self._failing({**found.inputs, name: changed.reshape(found.inputs[name].shape)})
        if better is not None or end - start == 1:
            return better or found
        middle = (start + end) // 2
        found = self._zeroed(found, name, start, middle)
        return self._zeroed(found, name, middle, end)


def _rows(inputs: Arrays, batched: list[str], start: int, end: int) -> Arrays:
    return {name: array[start:end] if name in batched else array for name, array in inputs.items()}


def _rounded(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.round(array, 3) if array.dtype.kind == "f" else array
