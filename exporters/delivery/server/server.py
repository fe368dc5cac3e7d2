"""Serve the model of this folder over HTTP: granian server:application

The protocol is version 2 of the Open Inference Protocol, with tensors as JSON or binary (Triton's extension):
GET /v2, /v2/health/live, /v2/health/ready, /v2/models/model, /v2/models/model/ready, and
POST /v2/models/model/infer. Before the first request the golden inputs run; the server does not start if an
answer differs from the source model's.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

PACKAGE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(PACKAGE / "runtimes" / "python"))
from model_wrapper import ModelWrapper, replay  # type: ignore[import-not-found]  # noqa: E402

NAME = "model"
JSON_BYTES = "Inference-Header-Content-Length"
_JSON_BYTES_KEY = "HTTP_INFERENCE_HEADER_CONTENT_LENGTH"
MAX_BODY_BYTES = int(os.environ.get("MAX_BODY_BYTES", 256 << 20))
DTYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"float{bits}" for bits in (16, 32, 64)},
}
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}

Arrays = dict[str, "np.ndarray[Any, Any]"]
Answer = tuple[int, list[tuple[str, str]], bytes]


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server:
    def __init__(self, package: Path) -> None:
        if differing := replay(package):
            sys.exit(f"{', '.join(differing)}: differs from the source model here, so nothing is served.")
        self._model = ModelWrapper(package)
        self._run = getattr(self._model, "run", self._model.predict)  # named so by the first releases
        self._lock = Lock()  # not every runtime takes two calls at a time
        self._inputs = {spec["name"]: spec for spec in self._model.metadata["input_specs"]}
        self._outputs = self._model.metadata["output_spec"]

    def answer(self, method: str, path: str, json_bytes: str | None, body: bytes) -> Answer:
        model = f"/v2/models/{NAME}"
        if path == f"{model}/infer":
            if method != "POST":
                raise Refused(405, "Send the request with POST.")
            return self._infer(json_bytes, body)
        documents: dict[str, Callable[[], Any]] = {
            "/v2": lambda: {"name": "package", "version": "1", "extensions": ["binary_tensor_data"]},
            "/v2/health/live": lambda: {"live": True},
            "/v2/health/ready": lambda: {"ready": True},
            model: self._description,
            f"{model}/ready": lambda: {"name": NAME, "ready": True},
        }
        if path not in documents:
            raise Refused(404, f"{path} is not here. The model is at {model}/infer.")
        if method not in ("GET", "HEAD"):
            raise Refused(405, f"{path} is read with GET.")
        return 200, [("Content-Type", "application/json")], json.dumps(documents[path]()).encode()

    def _description(self) -> dict[str, Any]:
        def tensor(spec: dict[str, Any]) -> dict[str, Any]:
            shape = [size if isinstance(size, int) else -1 for size in spec["shape"]]
            return {"name": spec["name"], "datatype": DATATYPES[spec["dtype"]], "shape": shape}

        return {
            "name": NAME,
            "versions": ["1"],
            "platform": self._model.metadata["model_info"]["export_format"],
            "inputs": [tensor(spec) for spec in self._inputs.values()],
            "outputs": [tensor(spec) for spec in self._outputs.values()],
        }

    def _infer(self, json_bytes: str | None, body: bytes) -> Answer:
        try:
            end = len(body) if json_bytes is None else int(json_bytes)
            request = json.loads(body[:end])
            given = {tensor["name"]: tensor for tensor in request["inputs"]}
        except (ValueError, KeyError, TypeError) as exc:
            raise Refused(
                400, f'The body must be JSON with "inputs", a list of tensors with names: {exc}'
            ) from exc
        if set(given) != set(self._inputs):
            raise Refused(
                400,
                f"The model takes the inputs {', '.join(self._inputs)}, not {', '.join(map(str, given))}.",
            )
        arrays, rest = {}, body[end:]
        try:
            for name, tensor in given.items():
                arrays[name], rest = self._array(name, tensor, rest)
            wanted = self._wanted(request)
        except AttributeError as exc:
            raise Refused(400, "Outputs and parameters must be JSON objects.") from exc
        try:
            with self._lock:
                outputs: Arrays = self._run(arrays)
        except ValueError as exc:  # a size that the model does not accept
            raise Refused(400, str(exc)) from exc
        return encoded(request.get("id"), wanted, outputs)

    def _array(self, name: str, tensor: dict[str, Any], rest: bytes) -> tuple["np.ndarray[Any, Any]", bytes]:
        spec = self._inputs[name]
        datatype, shape = tensor.get("datatype"), tensor.get("shape")
        wanted = DATATYPES[spec["dtype"]]
        if datatype != wanted:
            raise Refused(400, f"The input {name} has the datatype {wanted}, not {datatype}.")
        if not isinstance(shape, list) or not fits(spec["shape"], shape):
            raise Refused(400, f"The input {name} has the shape {spec['shape']}, not {shape}.")
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        try:
            if size is None:
                array = array_of(tensor["data"], np.dtype(spec["dtype"]))
            else:
                array, rest = np.frombuffer(rest[:size], dtype=spec["dtype"]), rest[size:]
        except (KeyError, ValueError, TypeError, OverflowError) as exc:
            raise Refused(400, f"The data of the input {name} is not {datatype}: {exc}") from exc
        if array.size != math.prod(shape):
            raise Refused(
                400, f"The input {name} has {array.size} elements, and its shape {shape} another number."
            )
        return array.reshape(shape), rest

    def _wanted(self, request: dict[str, Any]) -> dict[str, bool]:
        """Return output → whether it is sent as binary."""
        binary = bool((request.get("parameters") or {}).get("binary_data_output"))
        wanted = request.get("outputs") or [{"name": name} for name in self._outputs]
        found = {
            one.get("name"): bool((one.get("parameters") or {}).get("binary_data", binary)) for one in wanted
        }
        for name in found:
            if name not in self._outputs:
                raise Refused(400, f"The model has the outputs {', '.join(self._outputs)}, not {name}.")
        return found


def encoded(request_id: Any, wanted: dict[str, bool], outputs: Arrays) -> Answer:
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for name, binary in wanted.items():
        array = np.ascontiguousarray(outputs[name])
        document: dict[str, Any] = {"name": name, "datatype": DATATYPES[str(array.dtype)]}
        document["shape"] = list(outputs[name].shape)  # ascontiguousarray gives a number an axis
        if binary:
            raw.append(array.tobytes())
            document["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            document["data"] = values(array)
        described.append(document)
    answer = {"model_name": NAME, "model_version": "1", "outputs": described}
    if request_id:
        answer["id"] = request_id
    text = json.dumps(answer, allow_nan=False).encode()
    if not raw:
        return 200, [("Content-Type", "application/json")], text
    headers = [("Content-Type", "application/octet-stream"), (JSON_BYTES, str(len(text)))]
    return 200, headers, b"".join([text, *raw])


def array_of(data: Any, dtype: "np.dtype[Any]") -> "np.ndarray[Any, Any]":
    """Return the elements of nested lists. Raises ValueError for what the dtype does not hold as it is."""
    flat: list[Any] = []
    left = [data]
    while left:
        one = left.pop()
        if isinstance(one, list):
            if any(isinstance(inner, list) for inner in one):
                left.extend(reversed(one))
            else:
                flat.extend(one)
        else:
            flat.append(one)
    kinds: dict[str, set[type]] = {"b": {bool}, "f": {int, float, type(None)}}
    wrong = {type(one) for one in flat} - kinds.get(dtype.kind, {int})
    if wrong:
        raise ValueError(f"it has elements of the type {', '.join(sorted(kind.__name__ for kind in wrong))}")
    if dtype.kind in "iu" and flat:
        limits = np.iinfo(dtype)
        if min(flat) < limits.min or max(flat) > limits.max:
            raise ValueError(f"the numbers must be from {limits.min} to {limits.max}")
    return np.array(flat, dtype=dtype)


def fits(wanted: list[int | str], shape: list[Any]) -> bool:
    """Return whether the shape fits the model's; a dimension with a name has any size."""
    return len(shape) == len(wanted) and all(
        isinstance(size, int) and size >= 0 and (isinstance(one, str) or size == one)
        for one, size in zip(wanted, shape, strict=True)
    )


def values(array: "np.ndarray[Any, Any]") -> list[Any]:
    """Return the elements in C order. JSON has neither NaN nor infinity: they become null."""
    found: list[Any] = array.ravel().tolist()
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return [value if math.isfinite(value) else None for value in found]
    return found


def body_of(environ: dict[str, Any]) -> bytes:
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", ""):
        raise Refused(411, "Send the request with a Content-Length.")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > MAX_BODY_BYTES:
        raise Refused(413, f"The request has {length:,} bytes; at most {MAX_BODY_BYTES:,} are accepted.")
    body: bytes = environ["wsgi.input"].read(length)
    return body


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI (PEP 3333)."""
    try:
        path, json_bytes = environ["PATH_INFO"].rstrip("/"), environ.get(_JSON_BYTES_KEY)
        status, answered, body = server.answer(environ["REQUEST_METHOD"], path, json_bytes, body_of(environ))
    except Refused as exc:
        status, answered, body = failure(exc.status, str(exc))
    except Exception as exc:  # the runtime's
        print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        status, answered, body = failure(500, "The model failed on this request; the server's log says why.")
    start_response(f"{status} {HTTPStatus(status).phrase}", [*answered, ("Content-Length", str(len(body)))])
    return [b"" if environ["REQUEST_METHOD"] == "HEAD" else body]


def failure(status: int, message: str) -> Answer:
    return status, [("Content-Type", "application/json")], json.dumps({"error": message}).encode()


server = Server(PACKAGE)
