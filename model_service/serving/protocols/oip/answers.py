"""Encode a model's outputs as a response of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from model_service.serving.protocols import JSON, Answer, encodings, tensors
from model_service.serving.protocols.oip import datatypes
from model_service.serving.protocols.oip.requests import JSON_BYTES, Request, Wanted

if TYPE_CHECKING:
    from exporters.base import Arrays
    from model_service.serving.protocols.tensors import Array

BINARY = "application/octet-stream"


def encode(
    request: Request,
    outputs: Arrays,
    *,
    model_name: str,
    model_version: str,
    accept_encoding: str | None = None,
) -> Answer:
    """Encode the requested outputs as the body of a response, into which each tensor is copied once.

    Raises:
        InvalidField: classes were requested for an output without classes.
    """
    wanted = request.wanted or [Wanted(name, request.binary, 0) for name in outputs]
    described: list[dict[str, Any]] = []
    raw: list[Any] = []
    for name, binary, classes in wanted:
        array = outputs[name]
        if classes:
            array = _best(array, classes, request.labels, name)
        datatype, array = datatypes.described(array)
        document: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if binary:
            if datatype == datatypes.BYTES:
                raw.append(datatypes.prefixed(datatypes.texts(array)))
                document["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                raw.append(array)
                document["parameters"] = {"binary_data_size": array.nbytes}
        else:
            document["data"] = _data(datatype, array)
        described.append(document)
    content: dict[str, Any] = {"model_name": model_name, "model_version": model_version, "outputs": described}
    if request.id:
        content["id"] = request.id
    text = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    if raw:
        answer = Answer(BINARY, [(JSON_BYTES, str(len(text)))], b"".join([text, *raw]))
    else:
        answer = Answer(JSON, [], text)
    return encodings.packed(answer, accept_encoding)


def _data(datatype: str, array: Array) -> Any:
    """Return the elements as one flat list."""
    if datatype == datatypes.BYTES:
        return datatypes.texts(array)
    if datatype == datatypes.BF16:
        return (array.astype(np.uint32) << 16).view(np.float32).ravel()
    return array.ravel()


def _best(array: Array, classes: int, labels: Sequence[str] | None, name: str) -> Array:
    """Return object[rows, classes] of "value:index" or "value:index:label", best first, like Triton.

    An output with one axis is one row, and its result has one axis too.
    """
    if array.dtype.kind not in "iuf" or not array.ndim or not array.size:
        raise tensors.invalid(f"outputs.{name}.parameters.classification", "the output has no scores")
    rows = array.reshape(1 if array.ndim == 1 else len(array), -1)
    form = "{:f}:{}" if array.dtype.kind == "f" else "{}:{}"
    named = labels if labels is not None and len(labels) == rows.shape[1] else None
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :classes]
    found = np.empty(best.shape, dtype=object)
    for row, order in enumerate(best.tolist()):
        for place, index in enumerate(order):
            text = form.format(rows[row, index], index)
            found[row, place] = f"{text}:{named[index]}" if named else text
    return found[0] if array.ndim == 1 else found
