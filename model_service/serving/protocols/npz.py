"""Arrays as ``.npy`` and ``.npz`` files, read in place and without pickles.

numpy.lib.format describes .npy. An .npz is a zip of them (APPNOTE.TXT, 4.3). It is read here by its central
directory: stored members are not copied, and claims that zipfile trusts are checked.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from model_service.errors import FileTooLarge, InvalidJSON

if TYPE_CHECKING:
    from exporters.base import Arrays

    Array = np.ndarray[Any, np.dtype[Any]]

NPY = "application/x-npy"
NPZ = "application/x-npz"
NPY_MAGIC = b"\x93NUMPY"
ZIP_MAGIC = b"PK\x03\x04"

_MAX_NPY_HEADER = 4096
_MAX_MEMBERS = 256
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_STORED, _DEFLATED = 0, 8
_PACKED_ENTRY = re.compile(rb"PK\x01\x02.{6}\x08\x00", re.DOTALL)
_LOCAL_BYTES = 30
_ENCRYPTED = 1
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that a zip can store: equal outputs are equal bytes


def read_npy(data: bytes | memoryview) -> Array:
    """Return a read-only view of the array. The size in the header must be the actual size.

    Raises:
        InvalidJSON: it is no complete .npy file of a plain array.
    """
    try:
        width = {b"\x01\x00": 2, b"\x02\x00": 4}[bytes(data[6:8])]
        start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
        if bytes(data[:6]) != NPY_MAGIC or start > _MAX_NPY_HEADER:
            raise ValueError("its header is not valid")
        shape, fortran_order, dtype = _header(bytes(data[:start]))
        return np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")
    except Exception as exc:  # numpy passes the header to Python's parsers, which fail in many ways
        raise InvalidJSON(
            f"The body is not a complete .npy file of a plain array: {str(exc)[:200]}."
        ) from None


@lru_cache(maxsize=256)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    stream = io.BytesIO(head)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, fortran_order, dtype = read(stream, max_header_size=_MAX_NPY_HEADER)
    if dtype.hasobject or dtype.itemsize == 0 or any(size < 0 for size in shape):
        raise ValueError("objects are not tensors")
    return shape, fortran_order, dtype


def read_npz(body: bytes, limit_bytes: int) -> Arrays:
    """Return the arrays by name. In total they unpack to at most the limit.

    Raises:
        InvalidJSON: it is no complete zip of .npy files.
        FileTooLarge: it unpacks to more.
    """
    try:
        members = _members(body, limit_bytes)
    except (struct.error, ValueError, IndexError, zlib.error) as exc:
        raise InvalidJSON(f"The body is not a complete .npz file: {exc}.") from None
    return {name: read_npy(data) for name, data in members.items()}


def is_packed(body: bytes) -> bool:
    """Return whether the body is an .npz file with a compressed member, from its central directory."""
    end = _end_of(body)
    return end >= 0 and _PACKED_ENTRY.search(body, _END.unpack_from(body, end)[6]) is not None


def _end_of(body: bytes) -> int:
    """Return the offset of the record that ends a zip, or -1."""
    found = body.rfind(b"PK\x05\x06", max(0, len(body) - _END.size - 0xFFFF))
    return found if found + _END.size <= len(body) else -1


def _members(body: bytes, limit_bytes: int) -> dict[str, bytes | memoryview]:
    end = _end_of(body)
    if end < 0:
        raise ValueError("it has no end of central directory")
    _, _, _, _, count, _, at, _ = _END.unpack_from(body, end)
    if count > _MAX_MEMBERS:
        raise ValueError(f"it has more than {_MAX_MEMBERS} members")
    view = memoryview(body)
    left, packed_left = limit_bytes, len(body)
    found: dict[str, bytes | memoryview] = {}
    for _ in range(count):
        entry = _ENTRY.unpack_from(body, at)
        flags, method, crc, packed_bytes, size_bytes = entry[3], entry[4], *entry[7:10]
        names, extra, comment, local = *entry[10:13], entry[16]
        if entry[0] != b"PK\x01\x02" or flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise ValueError("a member is encrypted, or neither stored nor deflated")
        left -= size_bytes
        packed_left -= packed_bytes
        if left < 0:
            raise FileTooLarge(limit_bytes, setting="MAX_INFERENCE_BODY")
        if packed_left < 0:
            raise ValueError("its members overlap")
        start = at + _ENTRY.size
        name = body[start : start + names].decode().removesuffix(".npy")
        if name in found:
            raise ValueError(f"two members have the name {name[:100]!r}")
        found[name] = _content(view, local, method, packed_bytes, size_bytes, crc)
        at = start + names + extra + comment
    return found


def _content(
    view: memoryview, local: int, method: int, packed_bytes: int, size_bytes: int, crc: int
) -> bytes | memoryview:
    """Return the unpacked bytes of a member; the sizes and the CRC are those of the central directory.

    Raises:
        ValueError: the member is truncated or damaged, or is not at its offset.
    """
    if view[local : local + 4] != ZIP_MAGIC:
        raise ValueError("a member is not at its recorded offset")
    names, extra = struct.unpack_from("<2H", view, local + 26)
    start = local + _LOCAL_BYTES + names + extra
    data: bytes | memoryview = view[start : start + packed_bytes]
    if len(data) != packed_bytes:
        raise ValueError("a member is truncated")
    if method == _DEFLATED:
        data = zlib.decompressobj(-15).decompress(data, size_bytes + 1)
    if len(data) != size_bytes or zlib.crc32(data) != crc:
        raise ValueError("a member is damaged")
    return data


def write_npy(array: Array) -> bytes:
    """Return a .npy file, format 1.0."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def write_npz(arrays: Arrays) -> bytes:
    """Return an .npz file, not compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), write_npy(array))
    return stream.getvalue()
