"""The body of a prediction request.

One array travels as ``.npy``: a float32 image is a fifth of its JSON, and nothing has to be parsed. numpy is
never imported here unless the caller's array already has.
"""

import json
from io import BytesIO
from typing import Any

from model_service.client.errors import InvalidArgument

NPY_MAGIC = b"\x93NUMPY"


def encode(inputs: Any) -> tuple[bytes, str]:
    """The body and its Content-Type, for

    - a numpy array, or the bytes of a ``.npy`` file: binary, for a model with one input;
    - nested lists, or anything with ``tolist()``: JSON, for a model with one input;
    - a dict of those, by input name: JSON.

    Raises:
        InvalidArgument: bytes that are no ``.npy``, an array of Python objects, a value JSON does not have.
    """
    if isinstance(inputs, bytes):
        if not inputs.startswith(NPY_MAGIC):
            raise InvalidArgument("These bytes are not a .npy file: give an array, lists, or a dict of them.")
        return inputs, "application/x-npy"
    if type(inputs).__module__ == "numpy" and hasattr(inputs, "__array_interface__"):
        return _npy(inputs), "application/x-npy"
    try:
        return json.dumps({"inputs": inputs}, default=_plain, allow_nan=False).encode(), "application/json"
    except (TypeError, ValueError) as exc:
        raise InvalidArgument(
            f"These inputs cannot be sent as JSON: {exc}. A numpy array on its own is sent as it is."
        ) from exc


def _npy(array: Any) -> bytes:
    from numpy.lib import format as npy

    file = BytesIO()
    try:
        npy.write_array(file, array, allow_pickle=False)
    except ValueError as exc:
        raise InvalidArgument(f"Only an array of numbers can be sent, this one is {array.dtype}.") from exc
    return file.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no tolist()")
