"""Saves an ONNX file as MLflow's model: ``python mlflow_model.py FILE FOLDER``."""

import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec


def main(file: str, folder: str) -> None:
    model = onnx.load(file)

    def schema(values: list[onnx.ValueInfoProto]) -> Schema:
        return Schema(
            [
                TensorSpec(
                    np.dtype(np.float32),
                    (-1, *(axis.dim_value for axis in value.type.tensor_type.shape.dim[1:])),
                    value.name,
                )
                for value in values
            ]
        )

    signature = ModelSignature(schema(model.graph.input), schema(model.graph.output))
    mlflow.onnx.save_model(model, folder, signature=signature)


if __name__ == "__main__":
    main(*sys.argv[1:])
