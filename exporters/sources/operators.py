"""The operators of a program, and the steps of its quantizers (``Source.operators`` and ``Source.steps``)."""

from collections.abc import Iterable
from typing import Any, NamedTuple

QUANTIZERS = frozenset({"quantizelinear", "quantize_per_tensor", "fake_quantize_per_tensor_affine"})


class Operators(NamedTuple):
    """``names``: the framework's names in lower case. ``steps``: scales that are constants."""

    names: frozenset[str]
    steps: tuple[float, ...]


def of_onnx(model: Any, nodes: Iterable[Any]) -> Operators:
    """Return the operators of ``nodes``, all nodes of ``model``, whose external data may not be loaded."""
    import onnx

    nodes = list(nodes)
    wanted = {node.input[1] for node in nodes if node.op_type == "QuantizeLinear"}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in wanted]
    for node in model.graph.node:
        if node.op_type == "Constant" and node.output[0] in wanted and node.attribute[0].HasField("t"):
            tensors.append(node.attribute[0].t)
    inline = [tensor for tensor in tensors if tensor.data_location != onnx.TensorProto.EXTERNAL]
    scales = [float(onnx.numpy_helper.to_array(tensor).reshape(-1)[0]) for tensor in inline]
    return Operators(frozenset(node.op_type.lower() for node in nodes), _steps(scales))


def of_program(program: Any) -> Operators:
    """Return the operators of a torch.export.ExportedProgram."""
    named = [(getattr(node.target, "_opname", ""), node.args) for node in program.graph.nodes]
    scales = [args[1] for name, args in named if name in QUANTIZERS and len(args) > 1]
    return Operators(frozenset(name for name, _ in named), _steps(scales))


def of_script(module: Any) -> Operators:
    """Return the operators of TorchScript. Its scales are not collected."""
    return Operators(frozenset(node.kind().rpartition("::")[2] for node in module.inlined_graph.nodes()), ())


def _steps(scales: Iterable[Any]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(scale for scale in scales if isinstance(scale, float) and scale > 0))
