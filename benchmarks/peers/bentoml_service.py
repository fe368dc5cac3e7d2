"""BentoML's service: both models, each as JSON and as raw bytes. ``SERVING_MODELS`` has name=path,…"""

import os
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType
from onnxruntime import InferenceSession

Array = Annotated[np.ndarray, DType("float32")]
MODELS = dict(each.split("=", 1) for each in os.environ["SERVING_MODELS"].split(","))
SIDE = 224


@bentoml.service(workers=1)
class Models:
    def __init__(self) -> None:
        self._sessions = {
            name: InferenceSession(path, providers=["CPUExecutionProvider"]) for name, path in MODELS.items()
        }

    def _ask(self, name: str, x: np.ndarray) -> np.ndarray:
        session = self._sessions[name]
        return session.run(None, {session.get_inputs()[0].name: x})[0]

    @bentoml.api
    def mlp(self, x: Array) -> Array:
        return self._ask("mlp", x)

    @bentoml.api
    def resnet(self, x: Array) -> Array:
        return self._ask("resnet", x)

    @bentoml.api
    def mlp_raw(self, body: bytes, /) -> bytes:
        return self._ask("mlp", np.frombuffer(body, np.float32).reshape(-1, 64)).tobytes()

    @bentoml.api
    def resnet_raw(self, body: bytes, /) -> bytes:
        return self._ask("resnet", np.frombuffer(body, np.float32).reshape(-1, 3, SIDE, SIDE)).tobytes()
