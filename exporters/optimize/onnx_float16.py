"""Weights and arithmetic of ONNX in float16, by onnxruntime's converter."""

from typing import Any

from ..base import Artefact
from ..errors import OptimizationFailed, converting
from ..formats.onnx_file import half
from ..formats.torch_graph import quiet
from . import onnx_graph
from .base import Step


def apply(step: Step) -> tuple[Artefact, dict[str, Any]]:
    """Write the model in float16; see ``ArtefactTechnique.apply``.

    Raises:
        OptimizationFailed: no weight became float16.
    """
    import onnx

    with converting("onnxruntime cannot convert this model to float16", "float16"), quiet():
        model = half(onnx.load(str(step.path)))
        halves = [
            tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16
        ]
        if not halves:
            raise OptimizationFailed(
                "The model has no weights of float32, so float16 changes nothing. Remove "
                "optimization_config.quantization."
            )
        artefact = onnx_graph.write(model, step, "float16")
    return artefact, {"float16_tensors": len(halves)}
