"""The Open Inference Protocol v2 from the other side: a small server that speaks its binary form."""

import json
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from model_service.client import Prediction

from .scripted import Request, Scripted, Step, answers

# Of either client.
Predict = Callable[..., Prediction]

X = np.arange(6, dtype=np.float32).reshape(2, 3)
ONE = {"x": "FP32"}

SIZES = {
    "BOOL": "?",
    "UINT8": "u1",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


def echoes(inputs: Mapping[str, str]) -> Step:
    """A model whose outputs are its inputs, called ``echo_…``; ``inputs`` are their names and datatypes."""

    def step(handler: BaseHTTPRequestHandler, request: Request) -> None:
        if request.method == "GET":
            described = [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in inputs.items()]
            body = json.dumps({"name": "d1", "platform": "onnx", "inputs": described, "outputs": []}).encode()
            answers(200, body)(handler, request)
            return
        end = int(request.headers["inference-header-content-length"])
        asked = json.loads(request.body[:end])
        given = {each["name"]: each["datatype"] for each in asked["inputs"]}
        if given != dict(inputs):
            answers(400, json.dumps({"error": f"takes {dict(inputs)}, not {given}"}).encode())(
                handler, request
            )
            return
        assert asked["parameters"] == {"binary_data_output": True}
        outputs, raw = [], b""
        for each in asked["inputs"]:
            size = each["parameters"]["binary_data_size"]
            content = request.body[end : end + size]
            end += size
            if each["datatype"] in SIZES:
                assert np.frombuffer(content, SIZES[each["datatype"]]).size == np.prod(each["shape"])
            outputs.append({**each, "name": f"echo_{each['name']}"})
            raw += content
        assert end == len(request.body)
        text = json.dumps({"model_name": "d1", "model_version": "v1.0", "outputs": outputs}).encode()
        answers(200, text + raw, Inference_Header_Content_Length=str(len(text)))(handler, request)

    return step


def says(status: int, message: str, **headers: Any) -> Step:
    """An error as the protocol has it."""
    return answers(status, json.dumps({"error": message}).encode(), **headers)


def endpoint(script: Scripted) -> str:
    return f"{script.url}/v1/infer/d1"


def posts(script: Scripted) -> list[Request]:
    return [request for request in script.requests if request.method == "POST"]
