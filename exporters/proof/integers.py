"""Probes of integer inputs over the range that their use implies, and of masks with whole rows masked.

An index is bounded by the rows of its table, and a flag is 0 or 1; the source knows the range of both. Any
other integer may be as large as its dtype: values up to 2^31-1, beyond it, and below zero are tried, as far
as the source accepts them. If it stops accepting them, the largest accepted value is searched and tried.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case, Source, TensorSpec
from .probing import Prober

# Up to beyond the range of int32. Each value is tried only if the one before it was accepted. The small
# values show whether a value determines a size, before that size takes much memory.
_LADDER = (2, 7, 1_000, 1 << 16, (1 << 24) + 1, (1 << 31) - 1, 1 << 40)
_MOST_PARTS = 16  # a table that takes more inputs than this is not tried as a whole
_MOST_NUMBERS = 4  # of a shape; each is tried larger and smaller by 1
_MASK = re.compile(r"(?i).*mask.*")


def probes(prober: Prober, base: Case) -> list[Case]:
    """Return the cases, with the sizes of ``base``, that the source accepts."""
    cases: list[Case] = []
    for spec in prober.source.inputs:
        if spec.name in prober.source.values and np.dtype(spec.dtype).kind == "i":
            cases += _neighbours(prober, base, spec)
        if is_mask(spec, prober.source):
            cases += _masks(prober, base, spec)
        elif np.dtype(spec.dtype).kind in "iu" and spec.name not in prober.source.bounded:
            cases += _magnitudes(prober, base, spec)
        elif spec.name in prober.source.bounded:
            cases += _ends(prober, base, spec)
    return cases


def _neighbours(prober: Prober, base: Case, spec: TensorSpec) -> Iterator[Case]:
    """Vary a shape or an axis: one number larger or smaller by 1."""
    array = base.inputs[spec.name]
    for place in range(min(array.size, _MOST_NUMBERS)):
        for step in (1, -1):
            other: npt.NDArray[Any] = array.copy()
            other.flat[-1 - place] += step
            label = f"{spec.name}: number {array.size - 1 - place} {step:+d}"
            case = prober.probe(label, {**base.inputs, spec.name: other}, "integers")
            if case is not None:
                yield case


def is_mask(spec: TensorSpec, source: Source) -> bool:
    """Return whether an input is a mask.

    A mask has at least two axes and is a boolean, or an integer with ``mask`` in its name that was traced
    with 0 and 1.
    """
    if len(spec.shape) < 2:
        return False
    low, high = source.integers.get(spec.name, (0, 1))
    return spec.dtype == "bool" or (
        np.dtype(spec.dtype).kind in "iu" and bool(_MASK.fullmatch(spec.name)) and 0 <= low <= high <= 1
    )


def _masks(prober: Prober, base: Case, spec: TensorSpec) -> Iterator[Case]:
    """Yield masks whose rows are completely, partly or not masked."""
    mask = base.inputs[spec.name]
    length = mask.shape[-1]
    place = np.arange(length)
    patterns = [
        np.zeros(length, bool),
        place < max(1, length // 2),
        place >= length - max(1, length // 2),
        place < 1,
        np.ones(length, bool),
    ]
    count = int(np.prod(mask.shape[:-1]))
    for start in range(0, len(patterns), count):
        rows = [patterns[(start + row) % len(patterns)] for row in range(count)]
        filled = np.stack(rows).reshape(mask.shape).astype(mask.dtype)
        label = f"{spec.name}: masked rows, padding {start // count + 1}"
        case = prober.probe(label, {**base.inputs, spec.name: filled}, "masks")
        if case is not None:
            yield case


def _ends(prober: Prober, base: Case, spec: TensorSpec) -> Iterator[Case]:
    """Probe the first and the last row of a table and values between them; every row of a small table."""
    low, high = prober.source.integers[spec.name]
    array = base.inputs[spec.name]
    rows = np.arange(low, high + 1)
    if array.size and len(rows) <= _MOST_PARTS * array.size:
        for start in range(0, len(rows), array.size):
            part = np.resize(rows[start : start + array.size], array.shape).astype(spec.dtype)
            label = f"{spec.name}: rows from {low + start}"
            whole = prober.probe(label, {**base.inputs, spec.name: part}, "integers")
            if whole is not None:
                yield whole
        return
    case = _asked(prober, base, spec, f"{spec.name}: {low} to {high}", low, high)
    if case is not None:
        yield case


def _magnitudes(prober: Prober, base: Case, spec: TensorSpec) -> list[Case]:
    limits = np.iinfo(spec.dtype)
    ladder = [value for value in _LADDER if value < limits.max] + [min(limits.max, _LADDER[-1])]
    taken: list[Case] = []
    good, bad = prober.source.integers.get(spec.name, (0, 1))[1], None
    for high in dict.fromkeys(ladder):
        case = _asked(prober, base, spec, f"{spec.name}: up to {high}", 0, high)
        if case is None:
            bad = high
            break
        taken.append(case)
        if any(case.expected[name].shape != array.shape for name, array in base.expected.items()):
            # The values determine sizes, which would continue to grow.
            break
        good = high
    if bad is not None and good < bad:
        taken += _edge(prober, base, spec, good, bad)
    elif limits.min < 0 and good > 1:
        negative = _asked(prober, base, spec, f"{spec.name}: below zero", -min(good, -(limits.min + 1)), -1)
        taken += [negative] if negative is not None else []
    return taken


def _edge(prober: Prober, base: Case, spec: TensorSpec, good: int, bad: int) -> list[Case]:
    """Find the largest value that the source accepts, by bisection."""
    found: Case | None = None
    while bad - good > 1:
        middle = (good + bad) // 2
        case = _asked(prober, base, spec, f"{spec.name}: up to {middle}", 0, middle)
        good, bad, found = (middle, bad, case) if case is not None else (good, middle, found)
    return [found] if found is not None else []


def _asked(prober: Prober, base: Case, spec: TensorSpec, label: str, low: int, high: int) -> Case | None:
    """Probe both ends of a range, and values of every magnitude between them."""
    random = np.random.default_rng(prober.seed)
    shape = base.inputs[spec.name].shape
    magnitude = np.exp(np.asarray(random.random(shape)) * np.log1p(float(high - low)))
    values = np.asarray(low + np.minimum(magnitude, high - low).astype(np.int64))
    flat = values.reshape(-1)
    flat[:1] = high
    flat[1:2] = low
    inputs: Arrays = {**base.inputs, spec.name: values.astype(spec.dtype)}
    return prober.probe(label, inputs, "integers")
