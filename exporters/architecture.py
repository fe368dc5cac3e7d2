"""The architecture of a network: a hash that more training does not change, and its size."""

import hashlib
import re
from collections.abc import Iterator
from typing import Any

from .base import PROGRAM, Source


def describe(source: Source) -> dict[str, Any]:
    """Return ``architecture_hash`` and ``parameter_count`` of a torch network.

    The hash is the sha256 of the operators in their order, of their arguments, and of the shapes and dtypes
    of the weights. It contains no value of a weight, and no name that the author gave.
    """
    lines = _of_program(source.program) if source.family == PROGRAM else _of_script(source.program)
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return {
        "architecture_hash": digest.hexdigest(),
        "parameter_count": sum(parameter.numel() for parameter in trained_parameters(source)),
    }


def trained_parameters(source: Source) -> list[Any]:
    """Return the trained parameters, without the buffers. A shared weight counts once."""
    parameters = source.program.parameters()
    return list({parameter.data_ptr(): parameter for parameter in parameters}.values())


def _of_program(program: Any) -> Iterator[str]:
    """Yield a line for each node of the graph. Nodes and dynamic sizes are numbered in their order."""
    import torch

    numbers = {node: number for number, node in enumerate(program.graph.nodes)}
    symbols: dict[str, str] = {}

    def shown(value: Any) -> str:
        if isinstance(value, torch.fx.Node):
            return f"%{numbers[value]}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(shown, value))}]"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{key}: {shown(one)}' for key, one in value.items())}}}"
        return size(value)

    def size(value: Any) -> str:
        return re.sub(r"\bs\d+\b", lambda found: symbols.setdefault(found[0], f"d{len(symbols)}"), str(value))

    for node in program.graph.nodes:
        target = "" if node.op in ("placeholder", "output", "get_attr") else str(node.target)
        made = node.meta.get("val")
        shape = f"{made.dtype}[{', '.join(map(size, made.shape))}]" if hasattr(made, "shape") else ""
        yield f"{node.op} {target} {shown(node.args)} {shown(node.kwargs)} {shape}"


def _of_script(script: Any) -> Iterator[str]:
    """Yield a line for each node of TorchScript, and one for each weight, in their order."""
    names: dict[str, str] = {}

    def number(value: Any) -> str:
        return names.setdefault(value.debugName(), f"%{len(names)}")

    for node in script.inlined_graph.nodes():
        inputs, outputs = map(number, node.inputs()), map(number, node.outputs())
        constant = node.output().toIValue() if node.kind() == "prim::Constant" else ""
        shown = constant if isinstance(constant, (bool, int, float, str, type(None))) else ""
        yield f"{' '.join(outputs)} = {node.kind()} {' '.join(inputs)} {shown}"
    for tensor in (*script.parameters(), *script.buffers()):
        yield f"{tensor.dtype}{list(tensor.shape)}"
