"""What the ONNX techniques share: a graph that a quantizer can read, and writing the result."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..base import Artefact
from ..errors import ConversionFailed, OptimizationFailed
from ..formats import onnx_file
from .base import Step

# Nodes whose weights are quantized; the names in reports are theirs.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Nodes with weights that no quantizer here changes: reports name them as layers in float.
_RECURRENT = ("GRU", "LSTM", "RNN")
_DOMAINS = ("", "ai.onnx")
_INTEGER_LAYERS = ("MatMulInteger", "ConvInteger")
_INTEGERS = (2, 3)  # onnx.TensorProto.UINT8, INT8


def prepared(step: Step, folder: Path) -> Path:
    """Write the graph with constants folded and batch norms merged into convolutions; return its path.

    Raises:
        ConversionFailed: the model is above protobuf's 2 GB.
        OptimizationFailed: it has no layer to quantize.
    """
    import onnx
    import onnxruntime

    if len(step.artefact.files) > 1:
        raise ConversionFailed("ONNX models above 2 GB cannot be quantized. Remove optimization_config.")
    path = folder / "prepared.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(step.path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(path))
    known = {entry.domain for entry in onnx.load(str(step.path)).opset_import}
    kept = [entry for entry in model.opset_import if entry.domain in known]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    _name(model)
    del model.graph.value_info[:]  # quantizers infer them, and fail on wrong ones
    onnx.save(model, str(path))
    if not layers(model):
        raise OptimizationFailed(
            "The model has no convolution and no matrix product with constant weights: there is nothing to "
            "quantize. Remove optimization_config.quantization."
        )
    return path


def layers(model: Any) -> list[str]:
    """Return the names of the nodes with constant weights, in the order of the graph."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in LAYERS
        and node.domain in _DOMAINS
        and any(name in weights for name in node.input[: 2 if node.op_type != "MatMul" else None])
    ]


def recurrent_layers(model: Any) -> list[str]:
    """Return the names of the recurrent nodes, which stay in float."""
    return [node.name for node in model.graph.node if node.op_type in _RECURRENT and node.domain in _DOMAINS]


def quantized_layers(model: Any, every: Sequence[str]) -> list[str]:
    """Return those of ``every`` whose weights are integers after a quantizer, which renames some nodes."""
    integers = {tensor.name for tensor in model.graph.initializer if tensor.data_type in _INTEGERS}
    restored = {
        node.output[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in integers
    }
    found = {
        node.name.removesuffix("_quant")
        for node in model.graph.node
        if (integers | restored if node.op_type in _INTEGER_LAYERS else restored) & set(node.input)
    }
    return [name for name in every if found & {name, f"{name}_MatMul"}]


def write(model: Any, step: Step, computes_in: str) -> Artefact:
    """Write ``model.onnx`` into ``step.folder``."""
    files = onnx_file.write(model, step.folder, step.source)
    return step.result(files, computes_in, opset_version=onnx_file.opset(model))


def _name(model: Any) -> None:
    """Give every node a name that is its own: quantizers and reports identify layers by name."""
    used: set[str] = set()
    for number, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{number}"
        while name in used:
            name = f"{name}_{number}"
        node.name = name
        used.add(name)
