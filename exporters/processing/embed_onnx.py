"""Add the declared steps as nodes before and after an ONNX network. See ``embed``."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..base import Source, TensorSpec

# Prefix of added names. No exporter uses it, and the checker refuses a file with a duplicate name.
_PREFIX = "embedded."


def extend(
    source: Source, pixels: TensorSpec, before: Mapping[str, Any], softmax: bool, folder: Path
) -> Source:
    """Return the network that takes ``pixels``, as a file in ``folder``.

    Raises:
        onnx.checker.ValidationError: the result violates the specification.
    """
    import onnx

    from ..formats import onnx_file

    model = onnx.load(str(source.program))
    graph = model.graph
    own = next(value for value in graph.input if value.name == pixels.name)
    nodes, prepared = _prepare(pixels.name, before, own.type.tensor_type.elem_type, graph)
    for node in graph.node:
        _rename(node, pixels.name, prepared)
    own.CopyFrom(onnx.helper.make_tensor_value_info(pixels.name, onnx.TensorProto.UINT8, pixels.shape))
    nodes += graph.node
    if softmax:
        nodes.append(_softmax(graph, nodes))
    del graph.node[:]
    graph.node.extend(nodes)
    extended = replace(source, inputs=(pixels,))
    return replace(extended, program=folder / onnx_file.write(model, folder, extended)[0])


def _prepare(name: str, before: Mapping[str, Any], dtype: int, graph: Any) -> tuple[list[Any], str]:
    """Return the nodes from pixels to the network's former input, and the name of their result."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    form, normalize = before["format"], before["normalize"]
    nodes: list[Any] = []

    def constant(value: Any, kind: Any) -> str:
        graph.initializer.append(
            numpy_helper.from_array(np.asarray(value, kind), f"{_PREFIX}{len(graph.initializer)}")
        )
        return str(graph.initializer[-1].name)

    def add(operator: str, *inputs: str, **attributes: Any) -> str:
        output = f"{_PREFIX}{operator.lower()}.{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    value = name
    if form["color_space"] == "BGR":
        value = add("Gather", value, constant([2, 1, 0], np.int64), axis=3)
    value = add("Cast", value, to=TensorProto.FLOAT)
    if form["color_space"] == "GRAY":
        shares = constant([[19595], [38470], [7471]], np.float32)  # exact: every sum is below 2**24
        value = add("Add", add("MatMul", value, shares), constant(32768, np.float32))
        value = add("Floor", add("Div", value, constant(65536, np.float32)))
    if normalize:
        value = add("Mul", value, constant(normalize["scale"], np.float32))
        value = add("Sub", value, constant(normalize["mean"], np.float32))
        value = add("Div", value, constant(normalize["std"], np.float32))
    if form["output_layout"] == "NCHW":
        value = add("Transpose", value, perm=[0, 3, 1, 2])
    return nodes, add("Cast", value, to=dtype)


def _rename(node: Any, before: str, after: str) -> None:
    """Rename an input of a node, also in the node's subgraphs, which use the outer names."""
    for index, name in enumerate(node.input):
        if name == before:
            node.input[index] = after
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *((attribute.g,) if attribute.HasField("g") else ())):
            for inner in graph.node:
                _rename(inner, before, after)


def _softmax(graph: Any, nodes: list[Any]) -> Any:
    """Return a softmax node that computes the first output from the former one."""
    from onnx import helper

    name = graph.output[0].name
    logits = f"{_PREFIX}logits"
    for node in nodes:
        _rename(node, name, logits)
        for index, output in enumerate(node.output):
            if output == name:
                node.output[index] = logits
    return helper.make_node("Softmax", [logits], [name], name=f"{_PREFIX}softmax", axis=1)
