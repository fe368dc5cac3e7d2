"""Measure, with hostile companion rows, whether the rows of a batch are computed independently.

Rows of different requests share a batch only if they are. Companions that resemble the rows prove little: the
same rows in another order have the same maximum, mean and deviation. The companion rows are therefore a
thousand times as large, zero, constant and NaN, and placed before and after the rows whose outputs are
compared. Each row is also compared with itself alone.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case, TensorSpec, copied
from ..runners import UNNAMED, Runner
from .verify import compare_outputs

_SCALE = 1000.0
_Rows = npt.NDArray[Any]


def has_batch_axis(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Return whether every input and output begins with one and the same dynamic axis."""
    first = {spec.shape[0] if spec.shape else None for spec in inputs}
    name = first.pop()
    return (
        not first
        and isinstance(name, str)
        and (len(inputs) == 1 or not name.startswith(UNNAMED))
        and all(spec.shape and isinstance(spec.shape[0], str) for spec in outputs)
    )


def rows_are_independent(runner: Runner, case: Case, precision: str | None = None) -> bool:
    """Return whether a row's outputs are the same alone, in its batch and beside hostile companions."""
    if not has_batch_axis(runner.inputs, runner.outputs):
        return False
    count = _count(case.inputs)
    known = runner.predict(copied(case.inputs))

    def outputs(arrays: Arrays) -> Arrays:
        return known if arrays is case.inputs else runner.predict(copied(arrays))

    succeeded = False
    for batch, at, rows in _batches(case.inputs, count):
        try:
            alone, together = outputs(rows), outputs(batch)
        except Exception:  # noqa: S112 - a batch that fails is run again, each request alone
            continue
        if any(array.ndim == 0 or len(array) != _count(batch) for array in together.values()):
            return False
        found = {name: array[at : at + _count(rows)] for name, array in together.items()}
        if not all(report["passed"] for report in compare_outputs(alone, found, precision).values()):
            return False
        succeeded = succeeded or _count(batch) > count
    return succeeded


def _batches(inputs: Arrays, count: int) -> Iterator[tuple[Arrays, int, Arrays]]:
    """Yield each batch, the index at which the compared rows begin in it, and these rows."""
    for front, behind in _companions(inputs):
        yield _joined(front, inputs, behind), 1, inputs
    for row in range(count if count > 1 else 0):
        yield inputs, row, {name: array[row : row + 1] for name, array in inputs.items()}
    if any(array.dtype.kind in "biu" for array in inputs.values()):
        smallest = {name: _zero(array) for name, array in inputs.items()}
        yield _joined(inputs, smallest), count, smallest


def _joined(*parts: Arrays) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _count(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _companions(inputs: Arrays) -> Iterator[tuple[Arrays, Arrays]]:
    """Yield, per kind of companion, a row to put before the batch and a row to put after it.

    An integer companion takes only values from the inputs: another one may be outside a table's range.
    """
    for front, behind in ((_scaled, _scaled), (_zero, _largest), (_nan, _nan)):
        yield (
            {name: front(array) for name, array in inputs.items()},
            {name: behind(array) for name, array in inputs.items()},
        )


def _scaled(array: _Rows) -> _Rows:
    if array.dtype.kind != "f":
        return _filled(array, np.max)
    limit = float(np.finfo(array.dtype).max)
    row = array[-1:].astype(np.float64)
    found: _Rows = np.clip(np.where(row == 0, 1.0, row) * _SCALE, -limit, limit).astype(array.dtype)
    return found


def _zero(array: _Rows) -> _Rows:
    return np.zeros_like(array[:1]) if array.dtype.kind == "f" else _filled(array, np.min)


def _largest(array: _Rows) -> _Rows:
    return _filled(array, lambda values: np.abs(values).max() if values.dtype.kind == "f" else values.min())


def _nan(array: _Rows) -> _Rows:
    return np.full_like(array[:1], np.nan) if array.dtype.kind == "f" else array[-1:]


def _filled(array: _Rows, choose: Callable[[_Rows], Any]) -> _Rows:
    """Return a row filled with one value of the array.

    For a dtype without an order, such as text, return its first row.
    """
    return np.full_like(array[:1], choose(array)) if array.dtype.kind in "biuf" and array.size else array[:1]
