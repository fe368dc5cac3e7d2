"""Arrays in an ``.npz``, read in pieces: the first axis of each array counts the rows."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ..errors import InvalidDataset
from .archive import Archive, damage
from .reader import MAX_ROWS, NAME_THE_LABEL, PIECE_BYTES, Column, Piece, chosen_of

_SUFFIX = ".npy"
_KINDS = "biufUS"
# The largest array in Fortran order, which cannot be read in pieces, and the largest row.
_WHOLE_BYTES = 128 << 20
_HEADER_BYTES = 1 << 16


@dataclass(frozen=True)
class _Array:
    member: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=object))


class NpzReader:
    """See ``reader.Reader``."""

    is_table = False
    classes: Sequence[str] | None = None
    unlabelled = NAME_THE_LABEL

    def __init__(self, path: Path) -> None:
        self._archive = Archive(path)
        self._arrays = {
            name.removesuffix(_SUFFIX): _header(self._archive, name)
            for name in self._archive.names
            if name.endswith(_SUFFIX)
        }
        if not self._arrays:
            raise InvalidDataset(
                "The dataset's file has no arrays. Save them with numpy.savez(path, x=..., y=...)."
            )
        self.columns: Mapping[str, Column] = {
            name: Column(array.dtype, array.shape[1:]) for name, array in self._arrays.items() if array.shape
        }
        self.lengths = {name: array.shape[0] for name, array in self._arrays.items() if array.shape}

    def pieces(self, names: Sequence[str], chosen: npt.NDArray[np.int64] | None = None) -> Iterator[Piece]:
        """See ``reader.Reader``."""
        arrays = {name: self._arrays[name] for name in names}
        size = self.lengths[names[0]]
        step = max(1, PIECE_BYTES // max(1, *(array.row_bytes for array in arrays.values())))
        with ExitStack() as stack:
            streams = {name: _open(self._archive, array, stack) for name, array in arrays.items()}
            for first in range(0, size, step):
                rows = min(step, size - first)
                piece = {name: _read(streams[name], array, rows) for name, array in arrays.items()}
                yield from chosen_of(first, piece, chosen)


def open_file(path: Path, schema: Mapping[str, Any]) -> NpzReader:
    return NpzReader(path)


def _header(archive: Archive, member: str) -> _Array:
    name = member.removesuffix(_SUFFIX)[:80]
    with archive.open(member) as file, damage(member):
        version = npy.read_magic(cast(Any, file))
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(cast(Any, file))
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(cast(Any, file))
        else:
            raise InvalidDataset(f"The array {name!r} has fields with names. Save one array for each.")
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise InvalidDataset(
            f"The array {name!r} has the dtype {dtype}, not numbers or texts. Convert it before it is "
            "saved, texts with array.astype(str)."
        )
    if not dtype.itemsize:
        raise InvalidDataset(
            f"The array {name!r} has the dtype {dtype}, whose texts have no characters. Remove it."
        )
    array = _Array(member, dtype, shape, fortran and len(shape) > 1)
    total = dtype.itemsize * int(np.prod(shape, dtype=object))
    if min(shape, default=0) < 0 or not total < archive.size(member) <= total + _HEADER_BYTES:
        raise InvalidDataset(f"The array {name!r} is damaged: its size is wrong. Upload the file again.")
    if shape and shape[0] > MAX_ROWS:  # of rows without bytes, a small file has any number
        raise InvalidDataset(f"The array {name!r} has {shape[0]:,} rows, more than {MAX_ROWS:,}. Split it.")
    if array.fortran and total > _WHOLE_BYTES:
        raise InvalidDataset(
            f"The array {name!r} is in Fortran order, which cannot be read row by row. Save "
            "numpy.ascontiguousarray(array)."
        )
    # An empty axis does not make the others smaller
    if dtype.itemsize * math.prod(max(1, size) for size in shape[1:]) > _WHOLE_BYTES:
        raise InvalidDataset(
            f"A row of the array {name!r} has more than {_WHOLE_BYTES:,} bytes. The first axis must count "
            "the rows."
        )
    return array


def _open(archive: Archive, array: _Array, stack: ExitStack) -> IO[bytes]:
    """Return a stream of the array's rows in C order."""
    file = stack.enter_context(archive.open(array.member))
    with damage(array.member):
        if npy.read_magic(cast(Any, file)) == (1, 0):
            npy.read_array_header_1_0(cast(Any, file))
        else:
            npy.read_array_header_2_0(cast(Any, file))
    if not array.fortran:
        return file
    columns = _read(file, _Array(array.member, array.dtype, array.shape[::-1], False), array.shape[-1])
    return io.BytesIO(columns.T.astype(array.dtype).tobytes())


def _read(file: IO[bytes], array: _Array, rows: int) -> npt.NDArray[Any]:
    wanted = rows * array.row_bytes
    parts = []
    with damage(array.member):
        while wanted > 0 and (part := file.read(min(wanted, 1 << 20))):
            parts.append(part)
            wanted -= len(part)
    if wanted > 0:
        raise InvalidDataset(f"The array {array.member[:80]!r} is cut short. Upload the file again.")
    found = np.frombuffer(b"".join(parts), array.dtype).reshape(rows, *array.shape[1:])
    return found.astype(array.dtype.newbyteorder("="), copy=False)
