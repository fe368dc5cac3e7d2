"""Decode a request of the Open Inference Protocol to the model's inputs and the requested outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from model_service.serving.protocols import LIMIT_BYTES, encodings, tensors
from model_service.serving.protocols.oip import columns, texts
from model_service.serving.protocols.oip.datatypes import DTYPES, named
from model_service.serving.protocols.oip.parameters import flag
from model_service.serving.protocols.oip.parameters import of as parameters_of

if TYPE_CHECKING:
    from exporters.base import Arrays, TensorSpec
    from model_service.serving.protocols import Model
    from model_service.serving.protocols.tensors import Array, Expected, ExpectedInputs

JSON_BYTES = "inference-header-content-length"
_MAX_AXES = 64


class Wanted(NamedTuple):
    """A requested output.

    ``classes``: the number of best classes to return instead of the tensor; 0: return the tensor.
    """

    name: str
    binary: bool
    classes: int


@dataclass(slots=True)
class Request:
    """A decoded request.

    ``wanted`` None: all outputs, ``binary`` or not. ``labels``: the class names, if classes are requested.
    """

    inputs: Arrays
    id: str | None
    parameters: Mapping[str, Any]
    wanted: tuple[Wanted, ...] | None
    binary: bool
    labels: Sequence[str] | None


def decode(
    body: bytes,
    json_bytes: str | int | None,
    content_encoding: str | None,
    model: Model,
    *,
    limit_bytes: int = LIMIT_BYTES,
) -> Request:
    """Decode a request. ``json_bytes`` is the header JSON_BYTES.

    If it is None, the whole body is JSON. If it is 0, the body has no JSON and is the model's only input
    (Triton's "raw binary request"). Tensors are read-only views of the body if they are aligned in it.

    Raises:
        InvalidJSON: no JSON where it should be.
        InvalidField: a name, datatype, shape or size is wrong, or a requested feature does not exist.
        UnsupportedOption, FileTooLarge, InvalidRequest: as ``encodings.unpack``.
    """
    if content_encoding:
        body = encodings.unpack(body, content_encoding, limit_bytes)
    expected = tensors.expected(model.inputs)
    end = len(body) if json_bytes is None else _length(json_bytes, len(body))
    if json_bytes is not None and end == 0:
        return _raw_request(body, expected)
    document = tensors.load(body if end == len(body) else memoryview(body)[:end])
    given = document.get("inputs")
    if model.pipeline.takes == "texts" and (tensor := texts.given_in(given)) is not None:
        size = parameters_of(tensor, f"inputs.{texts.NAME}.parameters").get("binary_data_size")
        inputs = texts.read(tensor, size, body, end, model, limit_bytes)
    elif columns.are_given(given, model):
        inputs = columns.read(given, body, end, model, limit_bytes)
    else:
        inputs = _inputs(given, body, end, expected, model.pipeline.missing)
    id_ = document.get("id")
    if id_ is not None and id_.__class__ is not str:
        raise tensors.invalid("id", "must be a text")
    parameters = parameters_of(document, "parameters")
    binary = flag(parameters, "binary_data_output", "parameters", False)
    outputs = document.get("outputs")
    wanted = _wanted(outputs, binary, model.outputs) if outputs else None
    labels = model.pipeline.classes if wanted and any(one.classes for one in wanted) else None
    return Request(inputs, id_, parameters, wanted, binary, labels)


def _length(given: str | int, body_bytes: int) -> int:
    text = str(given)
    if not (text.isascii() and text.isdecimal() and len(text) < 16) or int(text) > body_bytes:
        raise tensors.invalid(
            "Inference-Header-Content-Length",
            f"is {text[:40]!r}, which is not a valid size for a body of {body_bytes:,} bytes",
        )
    return int(text)


def _inputs(given: Any, body: bytes, at: int, expected: ExpectedInputs, missing: frozenset[str]) -> Arrays:
    """Decode the inputs. ``at``: the first raw tensor's offset. ``missing``: inputs in which null is NaN."""
    if given.__class__ is not list:
        raise tensors.invalid("inputs", "missing: send a list of {name, datatype, shape, data}")
    inputs: Arrays = {}
    for each in given:
        if each.__class__ is not dict:
            raise tensors.invalid("inputs", "contains an item that is not {name, datatype, shape, data}")
        name = each.get("name")
        one = expected.get(name) if name.__class__ is str else None
        if one is None or name in inputs:
            wrong = (
                "occurs twice"
                if one
                else f"is not an input; the model's inputs are {tensors.quoted(expected)}"
            )
            raise tensors.invalid("inputs", f"{str(name)[:100]!r} {wrong}")
        datatype = each.get("datatype")
        if datatype.__class__ is not str or DTYPES.get(datatype) is not one.dtype:
            raise tensors.invalid(
                f"inputs.{name}.datatype", f"is {str(datatype)[:20]!r}, but the model takes {named(one.text)}"
            )
        shape = _shape(each.get("shape"), one)
        parameters = parameters_of(each, f"inputs.{name}.parameters")
        size = parameters.get("binary_data_size") if parameters else None
        if size is None:
            data = each.get("data")
            if one.name in missing:
                data = tensors.without_nulls(data)
            inputs[one.name] = _listed(data, shape, one)
        else:
            inputs[one.name] = _raw(body, at, size, shape, one)
            at += size
    if at != len(body):
        raise tensors.invalid(
            "inputs", f"the body has {len(body) - at:,} bytes more than their binary_data_size"
        )
    if len(inputs) != len(expected):
        raise tensors.invalid("inputs", f"missing: {tensors.quoted(expected.keys() - inputs.keys())}")
    expected.check_sizes(inputs)
    return inputs


def _shape(given: Any, one: Expected) -> tuple[int, ...]:
    if one.fixed and given.__class__ is list and tuple(given) == one.shape:
        return one.shape  # type: ignore[return-value]  # fixed: no names in it
    whole = given.__class__ is list and len(given) <= _MAX_AXES
    if not whole or not all(size.__class__ is int and size >= 0 for size in given):
        raise tensors.invalid(f"inputs.{one.name}.shape", "must be a list of sizes")
    shape = tuple(given)
    tensors.check_shape(one, shape, f"inputs.{one.name}")
    return shape


def _raw(body: bytes, at: int, size: Any, shape: tuple[int, ...], one: Expected) -> Array:
    count = prod(shape)
    if size.__class__ is not int or size != count * one.dtype.itemsize:
        raise tensors.invalid(
            f"inputs.{one.name}.parameters.binary_data_size",
            f"is {str(size)[:40]}, but {named(one.text)}{list(shape)} has {count * one.dtype.itemsize} bytes",
        )
    if at + size > len(body):
        raise tensors.invalid(
            f"inputs.{one.name}", f"{size:,} bytes are announced, but {len(body) - at:,} arrived"
        )
    array: Array = np.frombuffer(body, one.dtype, count, at)
    if not array.flags.aligned:  # compiled code may crash on unaligned addresses
        array = array.copy()
    if one.code == "?":
        tensors.check_bools(array, f"inputs.{one.name}")
    return array.reshape(shape)


def _listed(data: Any, shape: tuple[int, ...], one: Expected) -> Array:
    """Convert JSON's numbers, in one list, or nested like the shape."""
    field = f"inputs.{one.name}.data"
    if data.__class__ is not list:
        raise tensors.invalid(field, "missing: send a list of numbers, or parameters.binary_data_size")
    if data and data[0].__class__ is list:
        array = tensors.packed(one, data, field)
        if array.shape != shape:
            raise tensors.invalid(field, f"has the shape {list(array.shape)}, not {list(shape)}")
        return array
    if len(data) != prod(shape):
        raise tensors.invalid(field, f"{len(data)} numbers do not fill the shape {list(shape)}")
    return tensors.pack(one, data, field).reshape(shape)


def _raw_request(body: bytes, expected: ExpectedInputs) -> Request:
    """Decode a body that is one tensor; its only unknown axis follows from the length."""
    if len(expected) != 1:
        raise tensors.invalid("inputs", "a body without JSON is only accepted for models with one input")
    (one,) = expected.values()
    unit = one.dtype.itemsize * prod(size for size in one.shape if isinstance(size, int))
    unknown = sum(isinstance(size, str) for size in one.shape)
    rows, rest = divmod(len(body), unit)
    if rest or not rows or unknown > 1 or (rows != 1 and not unknown):
        takes = ", ".join(map(str, one.shape))
        raise tensors.invalid(
            f"inputs.{one.name}", f"the shape {one.text}[{takes}] cannot be derived from {len(body):,} bytes"
        )
    shape = tuple(rows if isinstance(size, str) else size for size in one.shape)
    return Request({one.name: _raw(body, 0, len(body), shape, one)}, None, {}, None, True, None)


def _wanted(given: Any, binary: bool, specs: Sequence[TensorSpec]) -> tuple[Wanted, ...]:
    if given.__class__ is not list:
        raise tensors.invalid("outputs", "must be a list of {name, parameters}")
    names = [spec.name for spec in specs]
    wanted: dict[str, Wanted] = {}
    for each in given:
        name = each.get("name") if each.__class__ is dict else None
        if name.__class__ is not str or name not in names or name in wanted:
            what = (
                "occurs twice"
                if name in names
                else f"is not an output; the model's outputs are {tensors.quoted(names)}"
            )
            raise tensors.invalid("outputs", f"{str(name)[:100]!r} {what}")
        field = f"outputs.{name}.parameters"
        parameters = parameters_of(each, field)
        classes = parameters.get("classification", 0)
        if classes.__class__ is not int or classes < 0:
            raise tensors.invalid(f"{field}.classification", "must be the number of best classes to return")
        wanted[name] = Wanted(name, flag(parameters, "binary_data", field, binary), classes)
    return tuple(wanted.values())
