"""Rows of a table in a request of the Open Inference Protocol: a tensor for each column, by its name.

For tables with texts or categories. The texts are BYTES tensors; numbers have any other datatype.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from exporters.base import TensorSpec
from model_service.serving.protocols import items, tensors
from model_service.serving.protocols.oip import parameters, texts
from model_service.serving.protocols.oip.datatypes import BYTES, DTYPES

if TYPE_CHECKING:
    from exporters.base import Arrays
    from exporters.processing.table import Table
    from model_service.serving.protocols import Model

_MAX_CELLS = 2_000_000  # a cell of one byte takes 40 bytes in memory


def inputs_of(model: Model) -> tuple[TensorSpec, ...]:
    """Return the documented inputs: the texts for a model that counts their terms, or columns beside them."""
    pipeline = model.pipeline
    if pipeline.takes == "texts" and pipeline.preprocessing is None:
        return (texts.SPEC,)
    table = pipeline.table
    if table is None or all(column["dtype"] != "text" for column in table.columns):
        return model.inputs
    return tuple(
        TensorSpec(column["name"], "float64" if column["dtype"] == "number" else BYTES, ("batch",))
        for column in table.columns
        if column["dtype"] != "unused"
    )


def are_given(inputs: Any, model: Model) -> TypeGuard[list[Any]]:
    """Return whether the tensors are named like columns of the model, one of which holds texts."""
    table = model.pipeline.table
    if table is None or not isinstance(inputs, list) or not _texts(table):
        return False
    columns, own = {column["name"] for column in table.columns}, {spec.name for spec in model.inputs}
    for one in inputs:
        name = one.get("name") if isinstance(one, dict) else None
        if isinstance(name, str) and name in columns and (name not in own or one.get("datatype") == BYTES):
            return True
    return False


def read(given: list[Any], body: bytes, end: int, model: Model, limit_bytes: int) -> Arrays:
    """Return the model's inputs for the tensors ``given``. ``end``: the offset of the end of the body's JSON.

    Raises:
        InvalidField: a wrong name, datatype, shape, size or value, or too many values.
    """
    table = model.pipeline.table
    assert table is not None  # as in are_given
    if not texts.may_hold_texts(body):
        raise tensors.invalid("inputs", f"missing: tensors of BYTES for {tensors.quoted(_texts(table))}")
    dtypes = {column["name"]: column["dtype"] for column in table.columns}
    columns: dict[str, list[Any]] = {}
    for each in given:
        name = each.get("name") if isinstance(each, dict) else None
        if not isinstance(name, str) or name not in dtypes:
            known = tensors.quoted(dtypes)
            raise tensors.invalid(
                "inputs", f"{str(name)[:100]!r} is not a column; the model's columns are {known}"
            )
        if name in columns:
            raise tensors.invalid("inputs", f"{name!r} occurs twice")
        columns[name], end = _values(name, dtypes[name], each, body, end, len(given))
    if end != len(body):
        raise tensors.invalid("inputs", f"the body has {len(body) - end:,} bytes more than binary_data_size")
    rows = len(next(iter(columns.values())))
    for name, values in columns.items():
        if len(values) != rows:
            raise tensors.invalid(f"inputs.{name}.shape", f"has {len(values)} rows, and others have {rows}")
    data = [list(row) for row in zip(*columns.values(), strict=True)]
    return items.table("inputs", {"columns": list(columns), "data": data}, model, limit_bytes)


def _texts(table: Table) -> list[str]:
    return [column["name"] for column in table.columns if column["dtype"] in ("text", "string")]


def _values(
    name: str, dtype: str, given: Mapping[str, Any], body: bytes, at: int, columns: int
) -> tuple[list[Any], int]:
    """Return the values of a column, and the offset of the next binary tensor."""
    field = f"inputs.{name}"
    datatype, shape = given.get("datatype"), given.get("shape")
    is_text = datatype == BYTES
    known = is_text or (isinstance(datatype, str) and datatype in DTYPES)
    if not known or (dtype != "unused" and is_text != (dtype != "number")):
        wanted = {"number": "numbers", "unused": f"numbers or {BYTES!r}"}.get(dtype, f"{BYTES!r}")
        raise tensors.invalid(f"{field}.datatype", f"is {str(datatype)[:20]!r}, the model accepts {wanted}")
    if not texts.is_column(shape) or shape[0].__class__ is not int or shape[0] < 1:
        raise tensors.invalid(f"{field}.shape", "must be [rows] or [rows, 1]")
    if shape[0] * columns > _MAX_CELLS:
        raise tensors.invalid(f"{field}.shape", f"more than {_MAX_CELLS:,} values: send fewer rows at a time")
    size = parameters.of(given, f"{field}.parameters").get("binary_data_size")
    if size is None:
        values = texts.flat(given.get("data"), f"{field}.data")
    elif is_text:
        values = texts.unpacked(body, at, size, field)
    else:
        values = _numbers(body, at, size, shape[0], np.dtype(DTYPES[str(datatype)]), field)
    if len(values) != shape[0]:
        raise tensors.invalid(f"{field}.shape", f"is {shape}, but there are {len(values)} values")
    return values, at + (size or 0)


def _numbers(body: bytes, at: int, size: Any, count: int, dtype: np.dtype[Any], field: str) -> list[Any]:
    if size.__class__ is not int or size != count * dtype.itemsize or at + size > len(body):
        raise tensors.invalid(
            f"{field}.parameters.binary_data_size",
            f"is {str(size)[:40]}; {count} numbers have {count * dtype.itemsize} bytes",
        )
    array = np.frombuffer(body, dtype if dtype.kind != "b" else np.uint8, count, at)
    if dtype.kind == "b":
        tensors.check_bools(array, field)
    values: list[Any] = array.tolist()
    return values
