"""Request bodies to tensors, and tensors to JSON. What a client claims is checked before it is believed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from exporters.base import TensorSpec
from model_service.errors import InvalidField, InvalidJSON

if TYPE_CHECKING:
    from exporters.base import Arrays

NPY = "application/x-npy"
_MAX_NPY_HEADER = 4096


def parse(body: bytes, content_type: str, specs: Sequence[TensorSpec]) -> Arrays:
    """The model's inputs: JSON ``{"inputs": {name: values}}``, or for a model with one input also
    ``{"inputs": values}`` or the bytes of a ``.npy`` file.

    Raises:
        InvalidJSON: the body is not what its Content-Type says.
        InvalidField: an input is missing, unknown, or has the wrong shape or type.
    """
    values = _parse_npy(body) if content_type.partition(";")[0].strip() == NPY else _parse_json(body)
    if not isinstance(values, dict):
        if len(specs) != 1:
            raise _invalid("inputs", f"this model has {len(specs)} inputs; name them: {_names(specs)}")
        values = {specs[0].name: values}
    unknown = values.keys() - {spec.name for spec in specs}
    if unknown:
        raise _invalid(f"inputs.{sorted(unknown)[0]}", f"unknown; the model's inputs are {_names(specs)}")
    return {spec.name: _tensor(spec, values) for spec in specs}


def dump(answer: dict[str, Any]) -> bytes:
    """JSON with arrays as nested lists; NaN and infinities become null, which JSON has no other word for."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY, default=lambda array: array.tolist())


def _parse_json(body: bytes) -> Any:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidJSON(f"The body is not valid JSON: {exc}.") from None
    if not isinstance(parsed, dict) or "inputs" not in parsed:
        raise _invalid("inputs", "missing: send {'inputs': {name: values}}")
    return parsed["inputs"]


def _parse_npy(body: bytes) -> np.ndarray[Any, np.dtype[Any]]:
    """The array without a copy. The size that the header claims must be the size that is there."""
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran_order, dtype = read_header[version](stream, max_header_size=_MAX_NPY_HEADER)
        if dtype.hasobject or any(size < 0 for size in shape):
            raise ValueError("objects are not tensors")
        flat = np.frombuffer(body, dtype, offset=stream.tell())
        return flat.reshape(shape, order="F" if fortran_order else "C")
    except Exception as exc:  # numpy hands the header to Python's parsers, which fail in many ways
        raise InvalidJSON(f"The body is not a whole .npy file of a plain array: {exc}.") from None


def _tensor(spec: TensorSpec, values: dict[str, Any]) -> Any:
    field = f"inputs.{spec.name}"
    if spec.name not in values:
        raise _invalid(field, "missing")
    value = values[spec.name]
    wanted = np.dtype(spec.dtype)
    try:
        given = value if isinstance(value, np.ndarray) else np.asarray(value)
        if given.dtype != wanted and (
            given.dtype.kind not in "biuf" or (given.dtype.kind == "f" and wanted.kind not in "fc")
        ):
            raise ValueError(f"{given.dtype} values for a {wanted} tensor")
    except (ValueError, TypeError, OverflowError) as exc:
        raise _invalid(field, f"not a {wanted} tensor: {exc}") from None
    matches = given.ndim == len(spec.shape) and all(
        isinstance(expected, str) or size == expected
        for size, expected in zip(given.shape, spec.shape, strict=True)
    )
    if not matches:
        shape = ", ".join(str(size) for size in spec.shape)
        raise _invalid(field, f"has shape {list(given.shape)}, the model takes [{shape}]")
    if given.size == 0:
        raise _invalid(field, "is empty")
    if given.dtype != wanted:
        given = _cast(given, wanted, field)
    return np.ascontiguousarray(given)


def _cast(given: Any, wanted: np.dtype[Any], field: str) -> Any:
    """``given`` as ``wanted``, rounded where a float has no such value; what is out of range is refused.

    numpy itself would wrap an integer around, and make an infinity of a float.
    """
    with np.errstate(over="ignore"):
        cast = given.astype(wanted)
    if wanted.kind in "fc":
        outside = bool((np.isinf(cast) & np.isfinite(given)).any())
    else:
        low, high = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
        outside = int(given.min()) < low or int(given.max()) > high
    if outside:
        raise _invalid(field, f"holds values that {wanted} cannot")
    return cast


def _names(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)


def _invalid(field: str, message: str) -> InvalidField:
    return InvalidField(f"{field}: {message}.", [{"field": field, "message": message}])
