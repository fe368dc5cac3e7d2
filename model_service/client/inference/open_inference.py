"""The Open Inference Protocol v2 with its extension for binary tensors.

A message is JSON, whose length is in the header ``Inference-Header-Content-Length``, followed by the raw
tensors (little-endian, in C order) in the order in which the JSON names them:
https://github.com/kserve/open-inference-protocol and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md

numpy is imported when the first tensor is sent or read.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model_service.client.errors import InvalidArgument, UnexpectedAnswer

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

JSON_BYTES = "Inference-Header-Content-Length"

DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()} | {"bfloat16": "BF16"}


@dataclass(frozen=True)
class Signature:
    """The inputs of a model: name → datatype of the protocol, in the model's order."""

    inputs: Mapping[str, str]

    @classmethod
    def from_body(cls, body: bytes) -> "Signature":
        """Parse the body of ``GET /v2/models/{name}``. Raises UnexpectedAnswer if it is another document."""
        try:
            return cls({each["name"]: each["datatype"] for each in json.loads(body)["inputs"]})
        except (KeyError, TypeError, ValueError) as exc:
            raise UnexpectedAnswer(
                f"The response of this address does not describe a model's inputs: {exc!r}."
            ) from exc

    def fit(self, given: "Array | Mapping[str, Any]") -> dict[str, "Array"]:
        """Return the inputs by name; numbers are converted to the model's dtype if only precision is lost.

        Other values are not converted: the server reports what it accepts.

        Raises:
            InvalidArgument: one array for a model with several inputs, or a value that is no array of numbers
                or texts.
        """
        if not isinstance(given, Mapping):
            if len(self.inputs) != 1:
                names = ", ".join(map(repr, self.inputs))
                raise InvalidArgument(
                    f"This model has {len(self.inputs)} inputs; give a dict with an array for each of "
                    f"{names}."
                )
            given = {next(iter(self.inputs)): given}
        return {name: _fitted(array(value), self.inputs.get(name)) for name, value in given.items()}


def array(value: Any) -> "Array":
    """Convert ``value`` to an array of numbers or texts.

    Raises:
        InvalidArgument: it is not possible.
    """
    import numpy as np

    try:
        made = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as exc:
        raise InvalidArgument(f"This input is not an array: {exc}.") from exc
    if made.dtype.kind == "O":
        is_sendable = all(isinstance(each, str | bytes) for each in made.flat)
    else:
        is_sendable = made.dtype.name in _DATATYPES or made.dtype.kind in "US"
    if not is_sendable:
        raise InvalidArgument(f"Only numbers and texts can be sent; this array is {made.dtype}.")
    return made


def encode(inputs: Mapping[str, "Array"]) -> tuple[bytes, int]:
    """Return the body of a request for a binary response, and the length of its JSON."""
    described, raw = [], []
    for name, value in inputs.items():
        datatype = _DATATYPES.get(value.dtype.name, "BYTES")
        content = _texts(value) if datatype == "BYTES" else _raw(value)
        size = len(content)
        described.append(
            {
                "name": name,
                "datatype": datatype,
                "shape": list(value.shape),
                "parameters": {"binary_data_size": size},
            }
        )
        raw.append(content)
    fields = {"inputs": described, "parameters": {"binary_data_output": True}}
    text = json.dumps(fields, separators=(",", ":")).encode()
    return b"".join([text, *raw]), len(text)


def decode(body: bytes, json_bytes: str | None) -> tuple[dict[str, Any], dict[str, "Array"]]:
    """Return the JSON of a response, and its outputs by name.

    Args:
        json_bytes: the header with the length of the JSON part; without it the whole body is JSON.

    Raises:
        UnexpectedAnswer: the body is not a response of this protocol, or is incomplete.
    """
    import numpy as np

    try:
        end = len(body) if json_bytes is None else int(json_bytes)
        answer = json.loads(body[:end])
        outputs: dict[str, Array] = {}
        for each in answer["outputs"]:
            size = (each.get("parameters") or {}).get("binary_data_size")
            if size is None:
                outputs[each["name"]] = np.asarray(each["data"], _dtype(each["datatype"])).reshape(
                    each["shape"]
                )
            else:
                content = body[end : end + size]
                if len(content) != size:
                    raise ValueError(f"{each['name']} has {len(content)} of {size} bytes")
                outputs[each["name"]] = _tensor(content, each["datatype"]).reshape(each["shape"])
                end += size
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as exc:
        raise UnexpectedAnswer(f"The endpoint's response is not a prediction: {exc!r}.") from exc
    return answer, outputs


def _fitted(value: "Array", datatype: str | None) -> "Array":
    import numpy as np

    wanted = np.dtype(DTYPES.get(datatype or "", value.dtype))
    if wanted == value.dtype or value.dtype.kind not in "biuf":
        return value
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            cast = value.astype(wanted)
        overflowed = bool((np.isinf(cast) & np.isfinite(value)).any())
        return value if overflowed else cast
    if value.dtype.kind == "f":
        return value
    cast = value.astype(wanted)
    return cast if bool((cast == value).all()) else value


def _raw(value: "Array") -> memoryview:
    import numpy as np

    if value.dtype.byteorder == ">" or (value.dtype.byteorder == "=" and struct.pack("=H", 1) != b"\1\0"):
        value = value.astype(value.dtype.newbyteorder("<"))
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8).data


def _texts(value: "Array") -> bytes:
    """Encode texts, each after its length in 4 bytes."""
    texts = (each if isinstance(each, bytes) else str(each).encode() for each in value.flat)
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _tensor(content: bytes, datatype: str) -> "Array":
    """Decode a tensor as a copy: aligned and writable."""
    import numpy as np

    if datatype == "BYTES":
        texts = np.empty(len(found := list(_read_texts(content))), dtype=object)
        texts[:] = found
        return texts
    if datatype == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, np.dtype(DTYPES[datatype]).newbyteorder("<")).astype(DTYPES[datatype])


def _read_texts(content: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        (length,) = struct.unpack_from("<I", content, at)
        text = content[at + 4 : at + 4 + length]
        if len(text) != length:
            raise ValueError("a text is truncated")
        yield text
        at += 4 + length


def _dtype(datatype: str) -> str:
    return "object" if datatype == "BYTES" else "float32" if datatype == "BF16" else DTYPES[datatype]
