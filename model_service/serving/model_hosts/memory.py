"""Arrays in memory that the front and a model host share.

    0      8 bytes: when the run began, nanoseconds of CLOCK_MONOTONIC, which both processes have
    64     the inputs, then the outputs; each begins at a multiple of 64 bytes

An array is described by ``[name, dtype, shape, offset, size]`` in a message. The other side cannot change the
description after sending it, but it can change the memory at any time, so the front copies outputs before it
uses them. The file is sealed: neither side can shrink it while the other has it mapped.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

if TYPE_CHECKING:
    from exporters.base import Arrays

    Array = np.ndarray[Any, np.dtype[Any]]

START = 64
_FIRST_BYTES = 64 << 10
_ALIGNMENT = 64
_TEXT = "text"
_BFLOAT16 = "bfloat16"
_DTYPES = {
    name: np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}
_MOST_AXES = 32
_MOST_ARRAYS = 4096


class BadDescription(Exception):
    """The other side describes an impossible array."""


class SharedMemory:
    """``limit_bytes``: the memory never grows beyond it, and no description may reach beyond it."""

    def __init__(self, descriptor: int, limit_bytes: int) -> None:
        self.descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._map = self._mapped()

    @classmethod
    def create(cls, limit_bytes: int) -> SharedMemory:
        descriptor = os.memfd_create("tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, _FIRST_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return cls(descriptor, limit_bytes)

    def close(self) -> None:
        """Close the descriptor. The memory stays mapped as long as arrays use it."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __len__(self) -> int:
        return len(self._map)

    @property
    def began_ns(self) -> int:
        """Return when the run began; 0 if it has not."""
        found: int = struct.unpack_from("=q", self._map, 0)[0]
        return found

    @began_ns.setter
    def began_ns(self, value: int) -> None:
        struct.pack_into("=q", self._map, 0, value)

    def put(self, parts: Sequence[Arrays], start: int = START) -> tuple[list[list[Any]], int]:
        """Copy arrays into the memory; those of several ``parts`` are concatenated along the first axis.

        Returns their descriptions and the offset after them.

        Raises:
            MemoryError: they need more than the limit.
        """
        end = start
        described, placed = [], []
        for name in parts[0]:
            pieces = [_plain(part[name]) for part in parts]
            first = pieces[0]
            shape = first.shape if len(pieces) == 1 else (sum(map(len, pieces)), *first.shape[1:])
            dtype = _TEXT if isinstance(first, _Text) else _name_of(first.dtype)
            size = len(first.content) if isinstance(first, _Text) else math.prod(shape) * first.dtype.itemsize
            described.append([name, dtype, list(shape), end, size])
            placed.append((pieces, shape, end))
            end = _aligned(end + size)
        self._reserve(end)
        for pieces, shape, offset in placed:
            _copy(pieces, shape, self._map, offset)
        return described, end

    def take(self, described: Any, *, copy: bool) -> Arrays:
        """Return the arrays of a message. ``copy``: into memory that the other side cannot change.

        Raises:
            BadDescription: an impossible dtype, shape or position.
        """
        if not isinstance(described, list) or len(described) > _MOST_ARRAYS:
            raise BadDescription("not a list of arrays")
        found: Arrays = {}
        for each in described:
            name, dtype, shape, offset, size = _checked(each)
            self._require(offset + size)
            if dtype == _TEXT:
                found[name] = _text(bytes(memoryview(self._map)[offset : offset + size]), shape)
                continue
            array: Array = np.ndarray(shape, _dtype(dtype), self._map, offset)
            if copy:
                array = array.copy()
                if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
                    raise BadDescription("a bool that is neither false nor true")
            found[name] = array
        return found

    def _require(self, end: int) -> None:
        """Check that the memory reaches to ``end``. Raises BadDescription."""
        if end <= len(self._map):
            return
        if end > self._limit_bytes or os.fstat(self.descriptor).st_size < end:
            raise BadDescription("an array outside the shared memory")
        self._map = self._mapped()

    def _reserve(self, end: int) -> None:
        if end > self._limit_bytes:
            raise MemoryError(
                f"tensors of {end:,} bytes, more than the {self._limit_bytes:,} allowed for a request"
            )
        if end > len(self._map):
            if os.fstat(self.descriptor).st_size < end:
                os.ftruncate(self.descriptor, end)
            self._map = self._mapped()

    def _mapped(self) -> mmap.mmap:
        size = min(os.fstat(self.descriptor).st_size, self._limit_bytes)
        return mmap.mmap(self.descriptor, size)


class _Text:
    """Strings as JSON, because numpy's arrays of strings contain pointers."""

    def __init__(self, array: Array) -> None:
        self.shape = array.shape
        self.content = orjson.dumps([_string(each) for each in array.ravel().tolist()])


def _dtype(name: str) -> np.dtype[Any] | None:
    """Return a dtype, or None if such arrays are not exchanged. numpy itself does not have bfloat16."""
    if name == _BFLOAT16:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return _DTYPES.get(name)


def _string(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    return text.encode(errors="replace").decode()


def _plain(array: Array) -> Any:
    if array.dtype.kind in "OUS":
        return _Text(array)
    _name_of(array.dtype)
    return array


@lru_cache(maxsize=64)
def _name_of(dtype: np.dtype[Any]) -> str:
    """Return the cached name of a dtype, which numpy computes slowly. Raises TypeError if not exchanged."""
    name = str(dtype)
    if _dtype(name) is None:
        raise TypeError(f"an array of {name} cannot be sent to or from a model host")
    return name


def _copy(pieces: Sequence[Any], shape: Sequence[int], into: mmap.mmap, offset: int) -> None:
    if isinstance(pieces[0], _Text):
        memoryview(into)[offset : offset + len(pieces[0].content)] = pieces[0].content
        return
    target: Array = np.ndarray(shape, pieces[0].dtype, into, offset)
    if len(pieces) == 1:
        target[...] = pieces[0]
    else:
        np.concatenate(pieces, out=target)


def _text(content: bytes, shape: tuple[int, ...]) -> Array:
    try:
        values = orjson.loads(content)
    except ValueError:
        values = None
    if not isinstance(values, list) or len(values) != math.prod(shape):
        raise BadDescription("texts that are not strings")
    if not all(value.__class__ is str for value in values):
        raise BadDescription("texts that are not strings")
    return np.array(values, dtype=object).reshape(shape)


def _checked(each: Any) -> tuple[str, str, tuple[int, ...], int, int]:
    match each:
        case [str() as name, str() as dtype, list() as sizes, int() as offset, int() as size]:
            pass
        case _:
            raise BadDescription("not a description of an array")
    kind = _dtype(dtype)
    if kind is None and dtype != _TEXT:
        raise BadDescription("an unknown type")
    if len(sizes) > _MOST_AXES or not all(each.__class__ is int and each >= 0 for each in sizes):
        raise BadDescription("an impossible shape")
    if offset < START or offset % _ALIGNMENT or size < 0:
        raise BadDescription("an impossible place")
    if kind is not None and math.prod(sizes) * kind.itemsize != size:
        raise BadDescription("a size that does not match the shape")
    return name, dtype, tuple(sizes), offset, size


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def total_bytes(parts: Iterable[Mapping[str, Array]]) -> int:
    return sum(array.nbytes for part in parts for array in part.values())
