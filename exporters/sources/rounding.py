"""Whether a program rounds numbers, and to multiples of which steps (``Source.roundings``)."""

from collections.abc import Iterable
from typing import Any

Roundings = tuple[float, ...] | None

_OF_ONNX = {"Round", "Floor", "Ceil", "QuantizeLinear", "DynamicQuantizeLinear"}
_OF_TORCH = {"round", "floor", "ceil", "trunc", "floor_divide", "fmod", "remainder"}
_QUANTIZERS = ("quantize_per_tensor", "fake_quantize_per_tensor_affine")


def of_onnx(model: Any, nodes: Iterable[Any]) -> Roundings:
    """The scales of its quantizers, where they are constants; None: it does not round.

    ``nodes``: all of ``model``, an onnx.ModelProto whose external data may be outside.
    """
    import onnx

    found = [node for node in nodes if node.op_type in _OF_ONNX]
    if not found:
        return None
    wanted = {node.input[1] for node in found if node.op_type == "QuantizeLinear"}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in wanted and node.attribute[0].HasField("t"):
            tensors.append(node.attribute[0].t)
    inline = [tensor for tensor in tensors if tensor.data_location != onnx.TensorProto.EXTERNAL]
    return _steps(float(onnx.numpy_helper.to_array(tensor).reshape(-1)[0]) for tensor in inline)


def of_program(program: Any) -> Roundings:
    """Of an exported program: the scales of its quantizers; None: it does not round."""
    names = [(getattr(node.target, "_opname", ""), node) for node in program.graph.nodes]
    found = [(name, node) for name, node in names if name in _OF_TORCH or name.startswith(_QUANTIZERS)]
    if not found:
        return None
    scales = [node.args[1] for name, node in found if name.startswith(_QUANTIZERS) and len(node.args) > 1]
    return _steps(scale for scale in scales if isinstance(scale, float))


def of_script(module: Any) -> Roundings:
    """Of TorchScript, whose scales are not looked for; None: it does not round."""
    kinds = {node.kind().rpartition("::")[2] for node in module.inlined_graph.nodes()}
    return () if kinds & _OF_TORCH or any(kind.startswith(_QUANTIZERS) for kind in kinds) else None


def _steps(scales: Iterable[float]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(scale for scale in scales if scale > 0))
