"""The body of a prediction request with a JSON response.

Arrays are sent as ``.npy`` or ``.npz``: a float32 image has a fifth of the size of its JSON, and nothing has
to be parsed. This module does not import numpy unless the caller passes an array.
"""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from model_service.client.errors import InvalidArgument

NPY_MAGIC = b"\x93NUMPY"
NPZ_MAGIC = b"PK\x03\x04"
NPY = "application/x-npy"
NPZ = "application/x-npz"


def encode(inputs: Any) -> tuple[bytes, str]:
    """Return the body and its Content-Type, for

    - an array, or the bytes of a ``.npy`` file: binary, for a model with one input;
    - a dict of arrays and lists by input name, or the bytes of a ``.npz`` file: binary;
    - nested lists, or a dict of them by input name: JSON.

    Raises:
        InvalidArgument: bytes that are neither, an array of Python objects, a value JSON does not have.
    """
    if isinstance(inputs, bytes):
        if inputs.startswith((NPY_MAGIC, NPZ_MAGIC)):
            return inputs, NPY if inputs.startswith(NPY_MAGIC) else NPZ
        raise InvalidArgument(
            "These bytes are neither a .npy or .npz file nor an image: give an array, lists, or a "
            "dict of them."
        )
    if has_array(inputs):
        return (npz(inputs), NPZ) if isinstance(inputs, Mapping) else (_npy(inputs), NPY)
    try:
        return json.dumps({"inputs": inputs}, default=_plain, allow_nan=False).encode(), "application/json"
    except (TypeError, ValueError) as exc:
        raise InvalidArgument(
            f"These inputs cannot be sent as JSON: {exc}. A single numpy array can be sent without JSON."
        ) from exc


def has_array(inputs: Any) -> bool:
    """Return whether a value is an array that numpy can read (torch, pandas), or a dict with one."""
    if isinstance(inputs, Mapping):
        return any(map(has_array, inputs.values()))
    return hasattr(inputs, "__array__") and hasattr(inputs, "shape")


def _npy(value: Any) -> bytes:
    import numpy as np
    from numpy.lib import format as npy

    file = BytesIO()
    array = np.asarray(value)
    try:
        npy.write_array(file, array, allow_pickle=False)
    except ValueError as exc:
        raise InvalidArgument(f"Only arrays of numbers can be sent; this array is {array.dtype}.") from exc
    return file.getvalue()


def npz(inputs: Mapping[str, Any]) -> bytes:
    """Write a ``.npz`` file. ``numpy.savez`` does not accept an input named ``file``."""
    file = BytesIO()
    with ZipFile(file, "w") as archive:
        for name, value in inputs.items():
            archive.writestr(f"{name}.npy", _npy(value))
    return file.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an input cannot be a {type(value).__name__}: give a list or an array of NumPy")
