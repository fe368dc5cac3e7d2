"""SplineTransformer: the basis functions of B-splines, by de Boor's recursion as scipy computes it.

All columns are computed at once, in float64: they have the same degree and the same number of knots.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from . import onnx_kinds
from .onnx_nodes import Nodes

Table = npt.NDArray[np.float64]
_ZERO = np.array(0.0)


def register() -> None:
    """Register the converter of this module."""
    from sklearn.preprocessing import SplineTransformer

    onnx_kinds.transformer(SplineTransformer, _splines, lambda model: int(model.n_features_out_))


def _splines(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container, "float64")
    model, rows = operator.raw_operator, node.joined(operator)
    splines = model.bsplines_
    knots, degree = np.array([one.t for one in splines], np.float64), int(splines[0].k)
    low, high = knots[:, degree], knots[:, -degree - 1]
    values = rows
    if model.extrapolation == "periodic":
        values = _into_period(node, rows, low, high - low)
    found = _evaluated(node, values, knots, np.array([one.c for one in splines], np.float64), degree)
    if model.extrapolation == "error":  # scikit-learn rejects rows beyond the knots
        outside = node("Or", node("Less", rows, low), node("Greater", rows, high))
        found = node("Where", _third_axis(node, outside), np.array(np.nan), found)
    elif model.extrapolation in ("constant", "linear"):
        found = _continued(node, rows, found, model)
    found = node("Where", _third_axis(node, node("IsNaN", rows)), _ZERO, found)
    kept = int(splines[0].c.shape[1]) - (not model.include_bias)
    found = node("Gather", found, np.arange(kept), axis=2)
    node.finish(node("Reshape", found, np.array([-1, len(splines) * kept])), operator)


def _into_period(node: Nodes, rows: str, low: Table, period: Table) -> str:
    """Return the rows, moved by whole periods to [low, low + period); zero if the period is zero."""
    rest = node("Mod", node("Sub", rows, low), np.where(period > 0, period, 1.0), fmod=1)
    rest = node("Where", node("Less", rest, _ZERO), node("Add", rest, period), rest)
    return node("Where", period > 0, node("Add", rest, low), _ZERO)


def _evaluated(node: Nodes, rows: str, knots: Table, coefficients: Table, degree: int) -> str:
    """Return float64[N, columns, functions].

    ``knots`` is [columns, knots], ``coefficients`` [columns, n, functions]. In each column, ``degree`` + 1
    functions are not zero; the interval between two knots determines which. ``basis`` has their values [N,
    columns].
    """
    columns, count, functions = coefficients.shape
    inner = knots[:, degree + 1 : knots.shape[1] - degree - 1]
    # With a single interval, this end is never passed
    inner = np.hstack([inner, np.full((columns, 1), np.inf)])
    passed = node("Cast", node("GreaterOrEqual", _third_axis(node, rows), inner), to="int64")
    interval = node("ReduceSum", passed, np.array([2]), keepdims=0)
    at_knot = node("Add", interval, np.arange(columns) * knots.shape[1] + degree)
    near = {
        place: node("Gather", knots.ravel(), node("Add", at_knot, np.array(place)), axis=0)
        for place in range(1 - degree, degree + 1)
    }
    basis = [node("Add", node("Mul", rows, _ZERO), np.array(1.0))]
    for order in range(1, degree + 1):
        basis = _of_next_order(node, rows, near, basis, order)
    row_of_table = node("Add", interval, np.arange(columns) * count)
    total = ""
    for place, value in enumerate(basis):
        chosen = node("Add", row_of_table, np.array(place))
        parts = node("Gather", coefficients.reshape(-1, functions), chosen, axis=0)
        part = node("Mul", parts, _third_axis(node, value))
        total = node("Add", total, part) if total else part
    return total


def _of_next_order(node: Nodes, rows: str, near: dict[int, str], basis: list[str], order: int) -> list[str]:
    """Compute the next order by de Boor's recursion. Between equal knots a function is zero."""
    found: list[str] = []
    carried = ""
    for place in range(order):
        right, left = near[place + 1], near[place + 1 - order]
        width = node("Sub", right, left)
        flat = node("Equal", width, _ZERO)
        share = node("Div", basis[place], node("Where", flat, np.array(1.0), width))
        share = node("Where", flat, _ZERO, share)
        falling = node("Mul", share, node("Sub", right, rows))
        found.append(node("Add", carried, falling) if carried else falling)
        carried = node("Mul", share, node("Sub", rows, left))
    return [*found, carried]


def _continued(node: Nodes, rows: str, found: str, model: Any) -> str:
    """Continue the functions beyond the knots, as constants or straight lines, as scikit-learn does."""
    wide = _third_axis(node, rows)
    splines, linear = model.bsplines_, model.extrapolation == "linear"
    places = np.arange(splines[0].c.shape[1])
    limits = _limits(model)
    for comparison, ends, chosen in (
        ("Less", [one.t[place] for one, (place, _) in zip(splines, limits, strict=True)], places),
        (
            "Greater",
            [one.t[-place - 1] for one, (place, _) in zip(splines, limits, strict=True)],
            places[::-1],
        ),
    ):
        continued = chosen[None] < np.array([[count] for _, count in limits])
        end = np.array(ends, np.float64)[None, :, None]
        line: str | Table = _at(splines, ends, 0, continued)
        outside = node(comparison, wide, end)
        if linear:
            line = node("Add", node("Mul", node("Sub", wide, end), _at(splines, ends, 1, continued)), line)
        found = node("Where", outside, line, found)
    return found


def _at(splines: Any, ends: list[float], order: int, continued: npt.NDArray[np.bool_]) -> Table:
    """Return derivatives at an end, float64[1, columns, functions]; 0 if not continued."""
    values = [one(end, nu=order) for one, end in zip(splines, ends, strict=True)]
    return np.where(continued, values, 0.0)[None]


def _limits(model: Any) -> list[tuple[int, int]]:
    """Return, per column, the knot where its range begins, and how many functions are continued beyond it.

    For straight lines, scikit-learn increases a degree of 0 or 1 from column to column.
    """
    found, degree = [], int(model.degree)
    for _ in model.bsplines_:
        knot = degree
        degree += model.extrapolation == "linear" and degree <= 1
        found.append((knot, degree))
    return found


def _third_axis(node: Nodes, values: str) -> str:
    return node("Unsqueeze", values, np.array([2]))
