"""The datatypes of the Open Inference Protocol, and the corresponding dtypes of numpy."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]

BYTES = "BYTES"
BF16 = "BF16"
# numpy has one object for each of its own dtypes, so they are compared by identity.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("bool"),
    "UINT8": np.dtype("uint8"),
    "UINT16": np.dtype("uint16"),
    "UINT32": np.dtype("uint32"),
    "UINT64": np.dtype("uint64"),
    "INT8": np.dtype("int8"),
    "INT16": np.dtype("int16"),
    "INT32": np.dtype("int32"),
    "INT64": np.dtype("int64"),
    "FP16": np.dtype("float16"),
    "FP32": np.dtype("float32"),
    "FP64": np.dtype("float64"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_NAMED = {dtype.name: name for name, dtype in DTYPES.items()} | {"bfloat16": BF16}


def named(dtype: str) -> str:
    """Return the datatype of a TensorSpec's dtype; BYTES for a dtype that the protocol does not have."""
    return _NAMED.get(dtype, BYTES)


def described(array: Array) -> tuple[str, Array]:
    """Return an output's datatype, and the array to send: C-contiguous; BF16 as uint16 with the same bits."""
    name = _NAMES.get(array.dtype)
    if name is not None:
        return name, array if array.flags.c_contiguous else np.array(array, order="C")
    if array.dtype.name == "bfloat16":
        return BF16, np.array(array, order="C").view(np.uint16)
    if array.dtype.kind in "biuf":  # another byte order, or a width that the protocol does not have
        wanted = array.dtype.newbyteorder("=")
        return described(array.astype(wanted if wanted in _NAMES else np.float64))
    return BYTES, array


def texts(array: Array) -> list[str]:
    """Return a BYTES tensor's elements, in C order."""
    return [
        one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in array.ravel().tolist()
    ]


def prefixed(elements: Iterable[str]) -> bytes:
    """Encode a BYTES tensor: each element after its length in 4 bytes."""
    encoded = (one.encode() for one in elements)
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)
