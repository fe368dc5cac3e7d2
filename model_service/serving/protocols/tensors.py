"""Convert a client's tensors to the arrays that a model takes, and read and write JSON.

All claims of a client are checked. numpy never converts nested lists: it would make every text as wide as the
longest one, and parse numbers from texts.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from exporters.base import TensorSpec
from exporters.runners import SharedAxes, shared_axes, unequal_axes
from model_service.errors import InvalidField, InvalidJSON

if TYPE_CHECKING:
    from exporters.base import Arrays

    Array = np.ndarray[Any, np.dtype[Any]]

# numpy's names → struct's letters. struct refuses numbers out of range and values that are no numbers.
_CODES = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "uint8": "B",
    "uint16": "H",
    "uint32": "I",
    "uint64": "Q",
    "float16": "e",
    "float32": "f",
    "float64": "d",
}
# A list of three bytes in a body needs twenty times the memory, and an object more.
_MAX_CONTAINERS = 2_000_000
_MAX_AXES = 32
_NUMBERS = (bool, int, float)
_JSON_NAMES = {str: "text", type(None): "null", list: "lists", dict: "objects"}


@dataclass(frozen=True, slots=True)
class Expected:
    """One input of a model. ``fixed``: no axis has a size that the caller chooses.

    ``code``: struct's letter.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]
    fixed: bool
    code: str | None
    text: str

    def fits(self, shape: tuple[int, ...]) -> bool:
        if self.fixed:
            return shape == self.shape
        return len(shape) == len(self.shape) and all(
            want.__class__ is str or want == have for want, have in zip(self.shape, shape, strict=True)
        )


class ExpectedInputs(dict[str, Expected]):
    """The inputs of a model by name, in their order."""

    shared: SharedAxes = ()

    def check_sizes(self, inputs: Arrays) -> None:
        """Raises InvalidField if two inputs have different sizes of the same axis, such as the batch."""
        if self.shared and (unequal := unequal_axes(self.shared, inputs)):
            raise invalid(f"inputs.{unequal[0]}", unequal[1])


@lru_cache(maxsize=4096)
def expected(specs: tuple[TensorSpec, ...]) -> ExpectedInputs:
    """Return the expected inputs, cached per model because every request needs them."""
    found = ExpectedInputs({spec.name: _expected(spec) for spec in specs})
    found.shared = shared_axes(specs)
    return found


def _expected(spec: TensorSpec) -> Expected:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:  # a tensor type that numpy does not have, by the runtime's own name
        dtype = np.dtype(object)
    fixed = all(isinstance(size, int) for size in spec.shape)
    return Expected(spec.name, dtype, tuple(spec.shape), fixed, _CODES.get(dtype.name), spec.dtype)


def named(specs: tuple[TensorSpec, ...], values: Any) -> Arrays:
    """Return the model's inputs from ``{name: values}``, or from values only for a model with one input.

    Values are arrays, or JSON's lists.

    Raises:
        InvalidField: an input is missing, unknown, or has the wrong shape or type.
    """
    wanted = expected(specs)
    if not isinstance(values, dict):
        if len(wanted) != 1:
            raise invalid(
                "inputs", f"this model has {len(wanted)} inputs; send an object with {quoted(wanted)}"
            )
        values = dict.fromkeys(wanted, values)
    elif not values.keys() <= wanted.keys():
        unknown = sorted(values.keys() - wanted.keys())[0]
        raise invalid(f"inputs.{unknown[:100]}", f"unknown; the model's inputs are {quoted(wanted)}")
    inputs = {}
    for name, one in wanted.items():
        if name not in values:
            raise invalid(f"inputs.{name}", "missing")
        inputs[name] = tensor(one, values[name], f"inputs.{name}")
    wanted.check_sizes(inputs)
    return inputs


def tensor(wanted: Expected, value: Any, field: str) -> Array:
    """Return a C-contiguous, aligned array; it may be read-only, and may be ``value`` itself.

    Raises:
        InvalidField: another shape, or a value that the type cannot hold. Only precision may be lost.
    """
    if value.__class__ is list:
        return packed(wanted, value, field)
    if isinstance(value, np.ndarray):
        return taken(wanted, value, field)
    if value.__class__ in _NUMBERS and wanted.shape == ():
        return pack(wanted, [value], field).reshape(())
    raise invalid(field, f"not a {wanted.text} tensor: {_JSON_NAMES.get(type(value), 'a single number')}")


def taken(wanted: Expected, given: Array, field: str) -> Array:
    """Convert an array to the model's input. Raises InvalidField, as ``tensor``."""
    dtype = wanted.dtype
    if given.dtype is not dtype and given.dtype != dtype:
        kind = given.dtype.kind
        if kind not in "biuf" or dtype.kind not in "biufc" or (kind == "f" and not _holds(dtype, given)):
            raise invalid(
                field, f"not a {wanted.text} tensor: {given.dtype} values for a {wanted.text} tensor"
            )
    check_shape(wanted, given.shape, field)
    if given.dtype.kind == "b":
        check_bools(given, field)
    if given.dtype != dtype:
        given = _cast(given, dtype, field)
    flags = given.flags
    return given if flags.c_contiguous and flags.aligned else np.array(given, order="C")


def _holds(dtype: np.dtype[Any], given: Array) -> bool:
    """Return whether the type can hold the floats without losing fractions."""
    if dtype.kind not in "iu":
        return dtype.kind in "fc"
    return bool((np.isfinite(given) & (given == np.trunc(given))).all())


def packed(wanted: Expected, values: list[Any], field: str) -> Array:
    """Convert nested lists to an array. Raises InvalidField, as ``tensor``."""
    flat, shape = _flattened(values, len(wanted.shape), field, wanted)
    check_shape(wanted, shape, field)
    return pack(wanted, flat, field).reshape(shape)


def pack(wanted: Expected, flat: Sequence[Any], field: str) -> Array:
    """Convert JSON's numbers to a read-only array with one axis. Raises InvalidField, as ``tensor``."""
    code = wanted.code
    if code is None:
        raise invalid(field, f"JSON numbers cannot be converted to a {wanted.text} tensor")
    try:
        if code == "?" and not {0, 1}.issuperset(flat):
            raise OverflowError
        return np.frombuffer(struct.pack(f"={len(flat)}{code}", *flat), wanted.dtype)
    except (struct.error, OverflowError, TypeError):
        whole = _whole(flat) if wanted.dtype.kind in "iu" else None
        if whole is None:
            raise _unpackable(wanted, flat, field) from None
        return pack(wanted, whole, field)


def _whole(flat: Sequence[Any]) -> list[Any] | None:
    """Return the values with floats as integers. None if there is no float, or one has a fraction."""
    floats = [value for value in flat if value.__class__ is float]
    if not floats or not all(value.is_integer() for value in floats):
        return None
    return [int(value) if value.__class__ is float else value for value in flat]


def check_shape(wanted: Expected, shape: tuple[int, ...], field: str) -> None:
    """Raises InvalidField if the shape is not the model's, or empty."""
    if not wanted.fits(shape):
        takes = ", ".join(str(size) for size in wanted.shape)
        raise invalid(field, f"has the shape {list(shape)}, but the model takes [{takes}]")
    if 0 in shape:
        raise invalid(field, "is empty")


def check_bools(array: Array, field: str) -> None:
    """Raises InvalidField for bytes other than 0 and 1, which compiled code assumes."""
    if array.view(np.uint8).max() > 1:
        raise invalid(field, "a bool must be 0 or 1")


def load(text: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        InvalidJSON: it is no JSON, or has too many lists.
        InvalidField: it is JSON, but no object.
    """
    if len(text) > 2 * _MAX_CONTAINERS:
        text = bytes(text)
        if text.count(b"[") + text.count(b"{") > _MAX_CONTAINERS:
            raise InvalidJSON(
                f"The body has more than {_MAX_CONTAINERS:,} lists and objects: send .npy or .npz."
            )
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        parsed = _with_nan(bytes(text), exc)
    if parsed.__class__ is not dict:
        raise invalid("inputs", "missing: the body must be a JSON object with {'inputs': …}")
    found: dict[str, Any] = parsed
    return found


def _with_nan(text: bytes, failure: orjson.JSONDecodeError) -> Any:
    """Parse JSON with NaN, which Python's json writes for a missing value, as null."""
    if b"NaN" in text:
        try:
            found = json.loads(text.decode(), parse_constant={"NaN": None}.__getitem__, parse_float=_finite)
            json.dumps(found, ensure_ascii=False).encode()  # fails on half a surrogate pair, which is no text
            return found
        except (ValueError, KeyError, RecursionError):
            pass
    raise InvalidJSON(f"The body is not valid JSON: {failure}.") from None


def _finite(number: str) -> float:
    """Parse a float. Raises ValueError if float64 cannot hold it, such as 1e999."""
    if math.isinf(found := float(number)):
        raise ValueError(number)
    return found


def without_nulls(values: Any, depth: int = _MAX_AXES) -> Any:
    """Replace null, a missing value, by NaN in nested lists."""
    if values is None:
        return math.nan
    if values.__class__ is list and depth:
        return [without_nulls(value, depth - 1) for value in values]
    return values


def dump(answer: dict[str, Any]) -> bytes:
    """Return JSON with arrays as nested lists; NaN and infinity, which JSON does not have, become null."""
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def invalid(field: str, message: str) -> InvalidField:
    return InvalidField.of(field, message)


def _flattened(
    values: list[Any], rank: int, field: str, wanted: Expected
) -> tuple[list[Any], tuple[int, ...]]:
    """Return the leaves in C order, and the shape."""
    shape = [len(values)]
    for _ in range(rank - 1):
        first = values[0] if values else None
        if first.__class__ is not list:
            break
        size = len(first)
        for row in values:
            if row.__class__ is not list or len(row) != size:
                raise invalid(field, f"not a {wanted.text} tensor: its rows have different lengths")
        shape.append(size)
        values = first if len(values) == 1 else list(chain.from_iterable(values))
    if values and values[0].__class__ is list:
        shape.append(len(values[0]))
    return values, tuple(shape)


def _unpackable(wanted: Expected, flat: Sequence[Any], field: str) -> InvalidField:
    for value in flat:
        if value.__class__ not in _NUMBERS:
            what = _JSON_NAMES.get(type(value), type(value).__name__)
            return invalid(field, f"not a {wanted.text} tensor: it contains {what}")
    if wanted.dtype.kind != "f" and any(value.__class__ is float for value in flat):
        return invalid(field, f"not a {wanted.text} tensor: it contains fractions")
    return invalid(field, f"contains values outside the range of {wanted.text}")


def _cast(given: Array, wanted: np.dtype[Any], field: str) -> Array:
    """Cast ``given`` to ``wanted``. Floats are rounded if necessary; values out of range are refused.

    numpy itself would wrap an integer around, and convert a float to infinity.
    """
    if np.can_cast(given.dtype, wanted, "safe"):
        return given.astype(wanted)
    if wanted.kind in "fc":
        with np.errstate(over="ignore", invalid="ignore"):
            cast = given.astype(wanted)
        outside = bool((np.isinf(cast) & np.isfinite(given)).any())
    else:
        low, high = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
        outside = int(given.min()) < low or int(given.max()) > high
        cast = given if outside else given.astype(wanted)
    if outside:
        raise invalid(field, f"contains values outside the range of {wanted}")
    return cast


def _plain(value: Any) -> Any:
    """Convert values that orjson cannot: some arrays, and their texts."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(type(value).__name__)
