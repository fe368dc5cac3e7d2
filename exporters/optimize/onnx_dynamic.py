"""Dynamic quantization of ONNX by onnxruntime: weights of 8 bits, activations quantized at run time."""

import tempfile
from pathlib import Path
from typing import Any

from ..base import Artefact
from ..errors import converting
from ..formats.torch_graph import quiet
from . import layers, onnx_graph
from .base import Step

# A convolution would become ConvInteger, which is slower than the convolution in float.
_OPERATORS = ("Gemm", "MatMul", "Attention", "LSTM")
_ADVICE = " Remove optimization_config.quantization."


def apply(step: Step) -> tuple[Artefact, dict[str, Any]]:
    """Write the quantized model; see ``ArtefactTechnique.apply``.

    Raises:
        OptimizationFailed: the model has no matrix product with constant weights.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with (
        tempfile.TemporaryDirectory(dir=step.folder) as scratch,
        converting("onnxruntime cannot quantize this model", "dynamic", _ADVICE),
        quiet(),
    ):
        prepared = onnx_graph.prepared(step, Path(scratch))
        path = Path(scratch) / "quantized.onnx"
        quantize_dynamic(
            str(prepared),
            str(path),
            op_types_to_quantize=list(_OPERATORS),
            per_channel=step.config["per_channel"],
            weight_type=QuantType.QInt8 if step.config["dtype"] == "qint8" else QuantType.QUInt8,
        )
        model = onnx.load(str(path))
        before = onnx.load(str(prepared))
        every = onnx_graph.layers(before)
        recurrent = onnx_graph.recurrent_layers(before)
        artefact = onnx_graph.write(model, step, "int8")
    return artefact, layers.report(onnx_graph.quantized_layers(model, every), [*every, *recurrent])
