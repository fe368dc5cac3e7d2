"""A runner without a runtime: its output is its inputs' sum, times a factor."""

from typing import Any

import numpy as np

from exporters.base import Arrays, TensorSpec
from exporters.processing.pipeline import Pipeline
from model_service.serving.common.warm_up import Cost
from model_service.serving.engine.engine import Batching, Engine
from model_service.serving.hosting.member import Loaded, Model


class Linear:
    def __init__(
        self, factor: float, inputs: tuple[str, ...] = ("x",), output: str = "y", *, width: int | str = 3
    ) -> None:
        self.factor = factor
        self.inputs = tuple(TensorSpec(name, "float32", ("batch", width)) for name in inputs)
        self.outputs: tuple[TensorSpec, ...] = (TensorSpec(output, "float32", ("batch", width)),)

    def predict(self, inputs: Arrays) -> Arrays:
        total: Any = sum(inputs[spec.name] for spec in self.inputs)
        return {self.outputs[0].name: total * np.float32(self.factor)}


def model(
    name: str, runner: Linear, engine: Engine, *, version: str = "v1.0", seconds: float = 1e-5
) -> Model:
    document = {"name": name, "model_version": version, "format": "onnx"}
    metadata = {
        "classes": None,
        "preprocessing": None,
        "postprocessing": None,
        "input_specs": [spec.to_json() for spec in runner.inputs],
    }
    pipeline = Pipeline(metadata, None)  # type: ignore[arg-type]  # a folder is for tokenizers
    cost = Cost(seconds, elements=100)
    loaded = Loaded(name, runner, pipeline, cost, mixes_rows=False)
    return Model(document, loaded, engine, Batching(max_rows=8))
