"""The two models of the serving benchmark, and how a question about each is written and its answer read.

Random weights: what is measured does not depend on them. The exports are the service's own, and the peers are
given the very same ONNX files.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
from numpy.typing import NDArray

Array = NDArray[np.float32]

FEATURES = 64
SIDE = 224
WIDTH = 40
# Between the same graph run with another number of threads or another batch; two models differ by far more.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Exported:
    """A verified ONNX export: the job that made it, its file, one example and what the model says to it."""

    name: str
    job_id: str
    onnx: Path
    example: Array = field(repr=False)  # float32[1, …]

    @cached_property
    def session(self) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(str(self.onnx), options, providers=["CPUExecutionProvider"])

    @cached_property
    def input_name(self) -> str:
        name: str = self.session.get_inputs()[0].name
        return name

    @cached_property
    def expected(self) -> Array:
        answer: Array = self.session.run(None, {self.input_name: self.example})[0]
        return answer

    def is_answered_by(self, answer: Array) -> bool:
        expected = self.expected
        return answer.size == expected.size and np.allclose(
            answer.ravel(), expected.ravel(), rtol=TOLERANCE, atol=TOLERANCE
        )


def mlp(path: Path, seed: int) -> Path:
    """float32[N, 64] to float32[N, 10], as a ``.pt2``."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    layers = [nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, FEATURES), nn.ReLU()]
    return _saved(nn.Sequential(*layers, nn.Linear(FEATURES, 10)), torch.zeros(2, FEATURES), path)


def resnet(path: Path, seed: int) -> Path:
    """ResNet-18 of width 40 in place of 64, float32[N, 3, 224, 224] to float32[N, 1000], as a ``.pt2``.

    Some 8 ms of one core: a net that is worth serving from a CPU, where a server's own cost still shows.
    """
    import torch
    from timm.models.resnet import BasicBlock, ResNet

    torch.manual_seed(seed)
    channels = (WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH)
    network = ResNet(BasicBlock, [2, 2, 2, 2], channels=channels, stem_width=WIDTH)
    return _saved(network, torch.zeros(2, 3, SIDE, SIDE), path)


def _saved(network: Any, example: Any, path: Path) -> Path:
    import torch

    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network.eval(), (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


MAKERS: Mapping[str, Callable[[Path, int], Path]] = {"mlp": mlp, "resnet": resnet}
SHAPES: Mapping[str, tuple[int, ...]] = {"mlp": (1, FEATURES), "resnet": (1, 3, SIDE, SIDE)}


def example(name: str) -> Array:
    return np.random.default_rng(0).standard_normal(SHAPES[name], dtype=np.float32)


@dataclass(frozen=True)
class Question:
    """One request of HTTP, always the same, and how the answer's body becomes an array."""

    url: str
    body: bytes = field(repr=False)
    headers: Mapping[str, str]
    read: Callable[[bytes, Mapping[str, str]], Array]


def v2_json(url: str, model: Exported, headers: Mapping[str, str] | None = None) -> Question:
    """The Open Inference Protocol's form in JSON."""
    shape = list(model.example.shape)
    given = {"name": model.input_name, "shape": shape, "datatype": "FP32", "data": model.example.ravel()}
    body = {"inputs": [given]}
    return Question(url, _dumps(body), {"Content-Type": "application/json", **(headers or {})}, _read_v2_json)


def v2_binary(url: str, model: Exported, headers: Mapping[str, str] | None = None) -> Question:
    """The same with its extension of binary tensors, in and out, as ``tritonclient`` writes it."""
    raw = model.example.tobytes()
    given = {
        "name": model.input_name,
        "shape": list(model.example.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(raw)},
    }
    head = _dumps({"inputs": [given], "parameters": {"binary_data_output": True}})
    announced = {"Inference-Header-Content-Length": str(len(head)), **(headers or {})}
    return Question(url, head + raw, announced, _read_v2_binary)


def bento_json(url: str, model: Exported) -> Question:
    body = _dumps({"x": model.example})
    return Question(url, body, {"Content-Type": "application/json"}, _read_json)


def bento_raw(url: str, model: Exported) -> Question:
    return Question(url, model.example.tobytes(), {"Content-Type": "application/octet-stream"}, _read_raw)


def mlflow_json(url: str, model: Exported) -> Question:
    body = _dumps({"inputs": {model.input_name: model.example}})
    return Question(url, body, {"Content-Type": "application/json"}, _read_mlflow)


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _read_v2_json(body: bytes, _: Mapping[str, str]) -> Array:
    return np.asarray(orjson.loads(body)["outputs"][0]["data"], np.float32)


def _read_v2_binary(body: bytes, headers: Mapping[str, str]) -> Array:
    head_bytes = int(headers["inference-header-content-length"])
    output = orjson.loads(body[:head_bytes])["outputs"][0]
    return _read_raw(body[head_bytes:][: output["parameters"]["binary_data_size"]], headers)


def _read_raw(body: bytes, _: Mapping[str, str]) -> Array:
    return np.frombuffer(body, "<f4")


def _read_json(body: bytes, _: Mapping[str, str]) -> Array:
    return np.asarray(orjson.loads(body), np.float32)


def _read_mlflow(body: bytes, _: Mapping[str, str]) -> Array:
    (answer,) = orjson.loads(body)["predictions"].values()
    return np.asarray(answer, np.float32)
