"""Combine requests into one batch along the first axis, and split its outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from exporters.base import Arrays

# The sizes of every input without the first axis, by name. Requests of equal shape fit into one batch.
Shape: TypeAlias = tuple[tuple[int, ...], ...]


def rows_of(inputs: Arrays) -> int:
    """Return the size of the first axis; 1 for scalars."""
    shape = next(iter(inputs.values())).shape
    return shape[0] if shape else 1


def shape_of(inputs: Arrays) -> Shape:
    return tuple(inputs[name].shape[1:] for name in sorted(inputs))


def concatenated(batch: Sequence[Arrays]) -> Arrays:
    return {name: np.concatenate([inputs[name] for inputs in batch]) for name in batch[0]}


def split(outputs: Arrays, rows: Sequence[int]) -> list[Arrays]:
    """Return views of the outputs, one per request.

    Raises:
        ValueError: the number of an output's rows differs from that of the inputs.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != total:
            raise ValueError(f"The output {name!r} does not have the {total} rows of its inputs.")
    ends = np.cumsum(rows).tolist()
    return [
        {name: array[end - count : end] for name, array in outputs.items()}
        for count, end in zip(rows, ends, strict=True)
    ]
