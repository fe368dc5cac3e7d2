"""Check that a model with a dynamic batch returns one row for each input row."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..base import Arrays, Case, copied
from ..errors import InvalidSource
from .probing import Prober

_BATCH = "batch"


def check_of(prober: Prober, base: Case) -> Callable[[int, Case], str | None]:
    """Return a check of the outputs for a batch of another size: a description of the error, or None.

    An output carries the batch if it has as many rows as the inputs at two sizes. An output for which that
    holds at the base only is checked by ``require_all``.
    """
    size = _rows(prober, base)
    carries: set[str] = set()

    def wrong(count: int, case: Case) -> str | None:
        for name, array in case.expected.items():
            before = base.expected[name]
            if not before.ndim or before.shape[0] != size:
                continue
            if array.ndim == before.ndim and array.shape[0] == count:
                carries.add(name)
            elif name in carries or array.ndim != before.ndim or array.shape[0] != size:
                return f"The output {name!r} has the shape {list(array.shape)} for {count} rows."
        return None

    return wrong


def require_all(prober: Prober, case: Case) -> None:
    """Check that the outputs read every row of ``case``, the case with the largest batch.

    Raises:
        InvalidSource: an output whose shape does not follow the batch reads only some of the rows, as in a
            model that was traced with that many rows.
    """
    count = _rows(prober, case)
    fixed = [name for name, array in case.expected.items() if not array.ndim or array.shape[0] % count]
    if not fixed:
        return
    first, last = (_with_another_row(prober, case, row) for row in (0, count - 1))
    for name in fixed:
        if first is None or last is None:
            return
        same_last = np.array_equal(last[name], case.expected[name], equal_nan=_is_float(case, name))
        same_first = np.array_equal(first[name], case.expected[name], equal_nan=_is_float(case, name))
        if same_last and not same_first:
            array = case.expected[name]
            raise InvalidSource(
                f"The batch is declared dynamic, but the output {name!r} has the shape "
                f"{list(array.shape)} for {count} rows and does not depend on all of them: the "
                "model was traced with a fixed number of rows, in a loop over them. Declare the "
                "batch with that number, or write the loop as one operation.",
                axis=_BATCH,
            )


def _with_another_row(prober: Prober, case: Case, row: int) -> Arrays | None:
    """Return the outputs after one row of the inputs was replaced; None if the source rejects the inputs."""
    inputs = copied(case.inputs)
    for spec in prober.source.inputs:
        if spec.shape and spec.shape[0] == _BATCH:
            array = inputs[spec.name]
            array[row] = array[row - 1] if not np.array_equal(array[row], array[row - 1]) else 0
    changed = prober.probe(f"another row {row}", inputs, "sizes")
    return changed.expected if changed is not None else None


def _rows(prober: Prober, case: Case) -> int:
    name = next(spec.name for spec in prober.source.inputs if spec.shape and spec.shape[0] == _BATCH)
    return int(case.inputs[name].shape[0])


def _is_float(case: Case, name: str) -> bool:
    return case.expected[name].dtype.kind == "f"
