"""BYTES tensors in a request of the Open Inference Protocol: texts, for a model that takes texts."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from exporters.base import TensorSpec
from model_service.serving.protocols import items, tensors
from model_service.serving.protocols.oip.datatypes import BYTES

if TYPE_CHECKING:
    from exporters.base import Arrays
    from model_service.serving.protocols import Model

NAME = "text"
SPEC = TensorSpec(NAME, BYTES, ("batch",))
_LENGTH_BYTES = 4
_WRITTEN = b'"BYTES"'


def may_hold_texts(body: bytes) -> bool:
    """Return whether the body may have a BYTES tensor, whose decoding would block an event loop."""
    return _WRITTEN in body


def given_in(inputs: Any) -> Mapping[str, Any] | None:
    """Return the BYTES tensor if it is the only input of the request."""
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        return None
    return inputs[0] if inputs[0].get("datatype") == BYTES else None


def read(
    given: Mapping[str, Any], size: Any, body: bytes, end: int, model: Model, limit_bytes: int
) -> Arrays:
    """Return the model's inputs for the tensor ``given``.

    Args:
        size: its ``binary_data_size``; None: its data are in the JSON.
        end: the offset of the end of the body's JSON.

    Raises:
        InvalidField: another name, shape or size, an element that is no text, or too many texts.
    """
    if given.get("name") != NAME:
        raise tensors.invalid(
            "inputs", f"{str(given.get('name'))[:100]!r} is not an input; send texts as {NAME!r}"
        )
    if not may_hold_texts(body):
        raise tensors.invalid(f"inputs.{NAME}.datatype", "must be written without escapes")
    field = f"inputs.{NAME}"
    shape = given.get("shape")
    if not is_column(shape):
        raise tensors.invalid(f"{field}.shape", "must be [n] or [n, 1] for n texts")
    if size is None:
        texts = flat(given.get("data"), f"{field}.data")
        end = len(body)
        wrong = next((place for place, one in enumerate(texts) if not isinstance(one, str)), None)
        if wrong is not None:
            raise tensors.invalid(f"{field}.data.{wrong}", "must be a text")
    else:
        texts = unpacked(body, end, size, field)
        end += size
    if end != len(body):
        raise tensors.invalid("inputs", f"the body has {len(body) - end:,} bytes more than binary_data_size")
    if len(texts) != shape[0]:
        raise tensors.invalid(f"{field}.shape", f"is {shape}, but there are {len(texts)} texts")
    if not texts:
        raise tensors.invalid(field, "is empty")
    return items.texts(field, texts, model, limit_bytes)


def is_column(shape: Any) -> TypeGuard[list[Any]]:
    """Return whether a shape is [rows] or [rows, 1]."""
    return isinstance(shape, list) and (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1))


def flat(data: Any, field: str) -> list[Any]:
    """Read JSON: a list of values, or of lists of one value each."""
    if not isinstance(data, list):
        raise tensors.invalid(field, "missing: send a list of values, or parameters.binary_data_size")
    return [one[0] if isinstance(one, list) and len(one) == 1 else one for one in data]


def unpacked(body: bytes, at: int, size: Any, field: str) -> list[str]:
    """Read a binary tensor: each text in UTF-8 after its length in 4 bytes, little-endian."""
    if size.__class__ is not int or not 0 <= size <= len(body) - at:
        raise tensors.invalid(
            f"{field}.parameters.binary_data_size",
            f"is {str(size)[:40]}, but {len(body) - at:,} bytes arrived",
        )
    texts: list[str] = []
    end = at + size
    while at < end:
        start = at + _LENGTH_BYTES
        stop = start + struct.unpack_from("<I", body, at)[0] if start <= end else end + 1
        if stop > end:
            raise tensors.invalid(f"{field}.{len(texts)}", "is longer than the tensor")
        try:
            texts.append(body[start:stop].decode())
        except UnicodeDecodeError:
            raise tensors.invalid(f"{field}.{len(texts)}", "is not UTF-8 text") from None
        at = stop
    return texts
