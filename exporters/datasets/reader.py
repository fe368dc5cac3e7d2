"""The interface of the loaders: the rows of a file, by columns, without a model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

PIECE_BYTES = 16 << 20
MAX_ROWS = 50_000_000

NAME_THE_LABEL = "Name its array or column in schema.label."

IMAGE = "image"  # the bytes of a picture's file
BOXES = "boxes"  # Truth: the objects in an image


@dataclass(frozen=True)
class Column:
    """An array, without its first axis, which counts the rows. ``dtype`` is numpy's, or IMAGE or BOXES."""

    dtype: "np.dtype[Any] | str"
    shape: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        return self.dtype if isinstance(self.dtype, str) else self.dtype.kind

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row of numbers; for others a guess."""
        size = 0 if isinstance(self.dtype, str) else self.dtype.itemsize
        return (size or 64) * math.prod(self.shape)


@dataclass(frozen=True)
class Truth:
    """The objects of an image: float64[n, 4] as x1, y1, x2, y2 in its pixels, and int64[n] classes.

    ``crowd``: bool[n], regions that count neither as found nor as missed. ``areas``: float64[n], in pixels.
    """

    boxes: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]


Piece: TypeAlias = tuple[npt.NDArray[np.int64], dict[str, Any]]
"""The numbers of some rows, and the rows of the columns: an array, or a list for IMAGE and BOXES."""


class Reader(Protocol):
    """The rows of a file, without a model. ``classes``: the names that the file itself has.

    ``lengths``: rows by column. ``is_table``: its columns together are one input of a model. ``unlabelled``:
    what to do if there is no label.
    """

    columns: Mapping[str, Column]
    lengths: Mapping[str, int]
    classes: Sequence[str] | None
    is_table: bool
    unlabelled: str

    def pieces(self, names: Sequence[str], chosen: npt.NDArray[np.int64] | None = None) -> Iterator[Piece]:
        """Yield the rows in order, in pieces of about PIECE_BYTES.

        Args:
            chosen: the numbers of the rows to yield, ascending; None: all.

        Raises:
            InvalidDataset: the file is damaged.
        """


def chosen_of(first: int, piece: Mapping[str, Any], chosen: npt.NDArray[np.int64] | None) -> Iterator[Piece]:
    """Yield the chosen rows of a piece that begins with the row ``first``; nothing if it has none."""
    size = len(next(iter(piece.values())))
    if chosen is None:
        yield np.arange(first, first + size), dict(piece)
        return
    rows = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + size)]
    if len(rows):
        yield rows, {name: values[rows - first] for name, values in piece.items()}
