"""Repair edge cases in which OpenVINO's CPU plugin (2026.4) differs from ONNX and torch, in the graph.

- ``ReduceMax`` starts at the lowest number of the dtype, so it returns -3.4e38 if all values are -inf.
- ``ScaledDotProductAttention`` returns NaN for a row that is masked completely; torch returns 0.
- ``NonMaxSuppression`` drops a box whose overlap equals the threshold; only a larger overlap should drop it.
"""

from typing import Any

from ..runners.openvino import runtime

_ONE_STEP = 0.6 * 2**-23  # t + t * this is the float32 next to t, for every t
_SMALLEST = 2.0**-126


def repair(model: Any) -> Any:
    """Repair the edge cases of ``model``, an ``openvino.Model``, and return it."""
    changed = False
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind in ("ReduceMax", "ReduceMin") and node.get_element_type().is_real():
            masked, value = _nothing_but(node, float("-inf" if kind == "ReduceMax" else "inf"))
            _replace(node, masked, value)
        elif kind == "ScaledDotProductAttention" and _has_mask(node):
            _replace(node, _fully_masked(node.input_value(3)), 0.0)
        elif kind == "NonMaxSuppression" and node.get_input_size() > 3:
            _raise_threshold(node.input(3))
        else:
            continue
        changed = True
    if changed:
        model.validate_nodes_and_infer_types()
    return model


def _nothing_but(node: Any, infinity: float) -> tuple[Any, float]:
    operators = runtime().opset13
    same = operators.equal(node.input_value(0), _constant(infinity, node.input_value(0)))
    keep = node.get_attributes()["keep_dims"]
    return operators.reduce_logical_and(same, node.input_value(1), keep), infinity


def _has_mask(node: Any) -> bool:
    """Return whether a mask is computed: a constant one, like a causal mask, masks no whole row."""
    if node.get_input_size() < 4:
        return False
    mask = node.input_value(3)
    rank = mask.get_partial_shape().rank
    constant = mask.get_node().get_type_name() == "Constant"
    return not constant and bool(rank.is_dynamic or rank.get_length() > 0)


def _fully_masked(mask: Any) -> Any:
    operators = runtime().opset13
    if mask.get_element_type().get_type_name() == "boolean":
        return operators.logical_not(operators.reduce_logical_or(mask, -1, True))
    return operators.reduce_logical_and(operators.equal(mask, _constant(float("-inf"), mask)), -1, True)


def _raise_threshold(threshold: Any) -> None:
    """Raise the threshold to the next number: an overlap equal to that exceeds the original threshold."""
    operators = runtime().opset13
    value = threshold.get_source_output()
    step = operators.multiply(value, _constant(_ONE_STEP, value))
    raised = operators.maximum(operators.add(value, step), _constant(_SMALLEST, value))
    threshold.replace_source_output(raised.output(0))


def _replace(node: Any, where: Any, value: float) -> None:
    """Replace the node's output by ``value`` where the mask ``where`` is true."""
    result = node.output(0)
    readers = list(result.get_target_inputs())
    chosen = runtime().opset13.select(where, _constant(value, result), result).output(0)
    for reader in readers:
        reader.replace_source_output(chosen)


def _constant(value: float, like: Any) -> Any:
    openvino = runtime()
    return openvino.opset13.constant(value, like.get_element_type())
