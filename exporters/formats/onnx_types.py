"""Insert casts where a float64 graph mixes in float32, such as the outputs of trees."""

from typing import Any

_FLOAT, _DOUBLE = 1, 11  # onnx.TensorProto.DataType
_TYPES = {"tensor(float)": _FLOAT, "tensor(double)": _DOUBLE}


def widen(model: Any) -> None:
    """Cast each float32 input of a node to float64 where another input of the same type parameter is float64.

    Types are derived from the operators' schemas. Subgraphs, like a Scan's body, are not changed.
    """
    from onnx import defs, helper

    graph = model.graph
    versions = {one.domain: one.version for one in model.opset_import}
    types = {value.name: value.type.tensor_type.elem_type for value in graph.input}
    types |= {value.name: value.data_type for value in graph.initializer}
    casts: dict[str, str] = {}
    nodes: list[Any] = []
    for node in graph.node:
        try:
            schema = defs.get_schema(node.op_type, versions.get(node.domain, 1), node.domain)
        except defs.SchemaError:
            nodes.append(node)
            continue
        parameters = _parameters(schema.inputs, len(node.input))
        for parameter in set(parameters):
            same = [place for place, one in enumerate(parameters) if one == parameter]
            if _DOUBLE not in {types.get(node.input[place]) for place in same}:
                continue
            for place in same:
                name = node.input[place]
                if types.get(name) != _FLOAT:
                    continue
                if name not in casts:
                    casts[name] = f"{name}_widened"
                    types[casts[name]] = _DOUBLE
                    nodes.append(helper.make_node("Cast", [name], [casts[name]], to=_DOUBLE))
                node.input[place] = casts[name]
        nodes.append(node)
        types |= _of_outputs(node, schema, parameters, types)
    del graph.node[:]
    graph.node.extend(nodes)


def _parameters(declared: Any, count: int) -> list[str]:
    """Return the type parameter of each input or output; the last declared one may repeat."""
    return [declared[min(place, len(declared) - 1)].type_str for place in range(count)] if declared else []


def _of_outputs(node: Any, schema: Any, parameters: list[str], types: dict[str, int]) -> dict[str, int]:
    attributes = {one.name: one for one in node.attribute}
    known = {one: types[name] for one, name in zip(parameters, node.input, strict=True) if name in types}
    allowed = {one.type_param_str: list(one.allowed_type_strs) for one in schema.type_constraints}
    found: dict[str, int] = {}
    for name, parameter in zip(node.output, _parameters(schema.outputs, len(node.output)), strict=True):
        if parameter in known:
            found[name] = known[parameter]
        elif node.op_type == "Cast":
            found[name] = attributes["to"].i
        elif node.op_type in ("Constant", "ConstantOfShape"):
            value = attributes.get("value")
            found[name] = value.t.data_type if value is not None else _FLOAT
        elif node.op_type == "LabelEncoder" and "values_floats" in attributes:
            found[name] = _FLOAT
        elif parameter in _TYPES:
            found[name] = _TYPES[parameter]
        elif len(allowed.get(parameter, ())) == 1 and allowed[parameter][0] in _TYPES:
            found[name] = _TYPES[allowed[parameter][0]]
    return found
