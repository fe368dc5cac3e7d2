"""Converters of preprocessing steps for which skl2onnx's own differ from scikit-learn.

skl2onnx compares with the edges of bins in float32, fills in missing values with an operator that onnxruntime
has for float32 only, divides a row of zeros by its norm, and lets PowerTransformer convert a missing value to
a number. Each converter here computes in the dtype of its input.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from .onnx_nodes import Nodes
from .onnx_trees import narrowed

_ZERO, _ONE = np.array([0.0]), np.array([1.0])
_ONCE = np.array(1.0)  # a scalar, as Clip takes it
# numpy's name of a function → the operators that compute it for the argument ``x``.
_FUNCTIONS: dict[str, Callable[[Nodes, str], str]] = {
    "log1p": lambda node, x: node("Log", node("Add", x, np.array(1.0))),
    "expm1": lambda node, x: node("Sub", node("Exp", x), np.array(1.0)),
    "log": lambda node, x: node("Log", x),
    "log2": lambda node, x: node("Div", node("Log", x), np.array(np.log(2.0))),
    "log10": lambda node, x: node("Div", node("Log", x), np.array(np.log(10.0))),
    "exp": lambda node, x: node("Exp", x),
    "exp2": lambda node, x: node("Pow", np.array(2.0), x),
    "sqrt": lambda node, x: node("Sqrt", x),
    "square": lambda node, x: node("Mul", x, x),
    "absolute": lambda node, x: node("Abs", x),
    "negative": lambda node, x: node("Neg", x),
    "reciprocal": lambda node, x: node("Div", np.array(1.0), x),
    "sin": lambda node, x: node("Sin", x),
    "cos": lambda node, x: node("Cos", x),
    "tanh": lambda node, x: node("Tanh", x),
}


def bins(scope: Any, operator: Any, container: Any) -> None:
    """Convert KBinsDiscretizer: a value equal to an edge is in the bin above it."""
    node = Nodes(scope, operator, container)
    estimator, rows = operator.raw_operator, node.joined(operator)
    blocks = []
    for place, edges in enumerate(estimator.bin_edges_):
        inner = np.asarray(edges[1:-1], np.float64)
        ends = narrowed(inner, strict=True) if node.dtype == "float32" else inner
        count = len(edges) - 1
        table = np.arange(count)[:, None] if estimator.encode == "ordinal" else np.eye(count)
        column = node.column(rows, place)
        above = node("Not", node("Less", column, np.append(ends, np.inf)))  # the last one is never reached
        number = node("MatMul", node("Cast", above, to=node.dtype), np.append(np.ones(len(inner)), 0.0))
        blocks.append(node("Gather", table.astype(np.float64), node("Cast", number, to="int64"), axis=0))
    node.finish(node("Concat", *blocks, axis=1), operator)


def binary(scope: Any, operator: Any, container: Any) -> None:
    """Convert Binarizer: onnxruntime's own compares float32 only."""
    node = Nodes(scope, operator, container)
    threshold = np.array([float(operator.raw_operator.threshold)])
    end = narrowed(threshold, strict=False) if node.dtype == "float32" else threshold
    above = node("Greater", node.joined(operator), end)
    node.finish(node("Cast", above, to=node.dtype), operator)


def norm(scope: Any, operator: Any, container: Any) -> None:
    """Convert Normalizer. A row whose norm counts as zero (``_handle_zeros_in_scale``) is unchanged."""
    node = Nodes(scope, operator, container)
    estimator, rows = operator.raw_operator, node.joined(operator)
    width = int(estimator.n_features_in_)
    if estimator.norm == "max":
        size = node("Abs", rows)
        length = node("Max", *(node.column(size, place) for place in range(width)))
    else:
        length = _length(node, rows, estimator.norm, width)
    small = node("Less", length, np.array([10 * np.finfo(np.float64).eps]))
    node.finish(node("Div", rows, node("Where", small, _ONE, length)), operator)


def absent_zeros(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    rows = node.joined(operator)
    node.finish(node("Where", node("Equal", rows, _ZERO), np.array([np.nan]), rows), operator)


def _length(node: Nodes, rows: str, norm: str, width: int) -> str:
    """Return the l1 or l2 norm of each row, [N, 1]."""
    ones = np.ones((width, 1))
    if norm == "l1":
        return node("MatMul", node("Abs", rows), ones)
    return node("Sqrt", node("MatMul", node("Mul", rows, rows), ones))


def tfidf(scope: Any, operator: Any, container: Any) -> None:
    """Convert TfidfTransformer. Zeros and rows of zeros are unchanged."""
    node = Nodes(scope, operator, container)
    estimator, rows = operator.raw_operator, node.joined(operator)
    if estimator.sublinear_tf:
        zero = node("Equal", rows, _ZERO)
        logarithm = node("Log", node("Where", zero, _ONE, rows))
        rows = node("Where", zero, _ZERO, node("Add", logarithm, _ONE))
    if hasattr(estimator, "idf_"):
        rows = node("Mul", rows, np.asarray(estimator.idf_, np.float64))
    if estimator.norm is not None:
        length = _length(node, rows, estimator.norm, int(estimator.n_features_in_))
        rows = node("Div", rows, node("Where", node("Equal", length, _ZERO), _ONE, length))
    node.finish(rows, operator)


def nearest_center(scope: Any, operator: Any, container: Any) -> None:
    """Convert KMeans and MiniBatchKMeans: label and distances.

    As in scikit-learn, the label does not use the square of the row, which all distances share: for a huge
    row the differences would be lost in rounding.
    """
    node = Nodes(scope, operator, container)
    centers, rows = np.asarray(operator.raw_operator.cluster_centers_, np.float64), node.joined(operator)
    squares = np.square(centers).sum(axis=1)
    relative = node("Add", node("MatMul", rows, -2 * centers.T), squares)
    own = node("MatMul", node("Mul", rows, rows), np.ones((centers.shape[1], 1)))
    distance = node("Sqrt", node("Max", node("Add", relative, own), _ZERO))
    label = node("ArgMin", relative, axis=1, keepdims=0)
    for value, output in zip((label, distance), operator.outputs, strict=True):
        container.add_node("Identity", [value], [output.full_name])


def power(scope: Any, operator: Any, container: Any) -> None:
    """Convert PowerTransformer: Yeo and Johnson (2000), Box and Cox (1964). Missing values stay missing."""
    node = Nodes(scope, operator, container)
    estimator, rows = operator.raw_operator, node.joined(operator)
    powers = np.asarray(estimator.lambdas_, np.float64)
    if estimator.method == "box-cox":
        changed = _box_cox(node, rows, powers)
    else:
        below = node("Less", rows, _ZERO)
        right = _box_cox(node, node("Add", node("Where", below, _ZERO, rows), _ONE), powers)
        left = _box_cox(node, node("Sub", _ONE, node("Where", below, rows, _ZERO)), 2 - powers)
        changed = node("Where", below, node("Neg", left), right)
    if estimator.standardize:
        changed = node("Div", node("Sub", changed, estimator._scaler.mean_), estimator._scaler.scale_)
    node.finish(node("Where", node("IsNaN", rows), rows, changed), operator)


def _box_cox(node: Nodes, values: str, powers: npt.NDArray[np.float64]) -> str:
    flat = np.abs(powers) < np.finfo(np.float64).eps
    safe = np.where(flat, 1.0, powers)
    curved = node("Div", node("Sub", node("Pow", values, safe), _ONE), safe)
    return node("Where", flat, node("Log", values), curved)


def quantiles(scope: Any, operator: Any, container: Any) -> None:
    """Convert QuantileTransformer with uniform output: equal quantiles give the mean of their places."""
    node = Nodes(scope, operator, container)
    estimator, rows = operator.raw_operator, node.joined(operator)
    if estimator.output_distribution != "uniform":
        raise ConversionFailed(
            "There is no converter for a QuantileTransformer with this output distribution."
        )
    steps = np.diff(np.asarray(estimator.references_, np.float64))
    found = []
    for place, known in enumerate(np.asarray(estimator.quantiles_, np.float64).T):
        value = node.column(rows, place)
        flat = np.diff(known) == 0
        wide = np.where(flat, 1.0, np.diff(known))
        share = node("Clip", node("Div", node("Sub", value, known[None, :-1]), wide[None]), _ONCE * 0, _ONCE)
        result = node("MatMul", share, np.where(flat, 0.0, steps)[:, None])
        if flat.any():
            ends = known[None, :-1][:, flat]
            both = node("Add", _as_number(node, "Greater", value, ends), _at_least(node, value, ends))
            result = node("Add", result, node("MatMul", both, 0.5 * steps[flat][:, None]))
        result = node("Where", node("Equal", value, known[None, -1:]), _ONE, result)
        result = node("Where", node("Equal", value, known[None, :1]), _ZERO, result)
        found.append(node("Where", node("IsNaN", value), value, result))
    node.finish(node("Concat", *found, axis=1), operator)


def _as_number(node: Nodes, comparison: str, value: str, ends: npt.NDArray[np.float64]) -> str:
    return node("Cast", node(comparison, value, ends), to=node.dtype)


def _at_least(node: Nodes, value: str, ends: npt.NDArray[np.float64]) -> str:
    return node("Cast", node("Not", node("Less", value, ends)), to=node.dtype)


def columns(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    chosen = np.array(operator.raw_operator.columns, np.int64)
    node.finish(node("Gather", node.joined(operator), chosen, axis=1), operator)


def selector(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    chosen = np.flatnonzero(operator.raw_operator.get_support())
    node.finish(node("Gather", node.joined(operator), chosen, axis=1), operator)


def _apply(node: Nodes, function: Any, value: str) -> str:
    if function is None:
        return value
    name = getattr(function, "__name__", str(function))
    if name not in _FUNCTIONS:
        raise ConversionFailed(f"There is no ONNX operator for the function {name!r}.")
    return _FUNCTIONS[name](node, value)


def function(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    node.finish(_apply(node, operator.raw_operator.func, node.joined(operator)), operator)


def inverse(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    transformer, value = operator.raw_operator.transformer, node.joined(operator)
    for step in reversed([one for _, one in getattr(transformer, "steps", [("", transformer)])]):
        value = _inverted(node, step, value)
    node.finish(value, operator)


def _inverted(node: Nodes, step: Any, value: str) -> str:
    """Invert a scaler: a straight line through its inverse at 0 and 1."""
    if type(step).__name__ == "FunctionTransformer":
        return _apply(node, step.inverse_func, value)
    if type(step).__name__ not in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        raise ConversionFailed(f"There is no converter for the inverse of a {type(step).__name__}.")
    width = step.n_features_in_
    low = np.asarray(step.inverse_transform(np.zeros((1, width))))
    slope = np.asarray(step.inverse_transform(np.ones((1, width)))) - low
    return node("Add", node("Mul", value, slope), low)
