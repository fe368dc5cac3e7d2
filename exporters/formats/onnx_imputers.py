"""Convert SimpleImputer, KNNImputer and MissingIndicator for numbers."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from . import onnx_kinds
from .onnx_neighbours import weights
from .onnx_nodes import Nodes

_MOST_COLUMNS = 64  # KNNImputer has a search for each
_MOST_NUMBERS = 20_000_000  # in the known rows that KNNImputer stores
_NOTHING = np.array(0.0)


def register() -> None:
    """Register this module's converters that skl2onnx lacks."""
    from sklearn.impute import KNNImputer, MissingIndicator

    onnx_kinds.transformer(MissingIndicator, _indicator, lambda model: len(model.features_))
    onnx_kinds.transformer(KNNImputer, _nearest, _width)


def simple(scope: Any, operator: Any, container: Any) -> None:
    """Convert SimpleImputer with its indicator."""
    node = Nodes(scope, operator, container)
    model, rows = operator.raw_operator, node.joined(operator)
    statistics = np.asarray(model.statistics_, np.float64)
    gone = _missing(node, rows, model)
    kept = np.flatnonzero(~np.isnan(statistics) | model.keep_empty_features)
    result = node("Gather", node("Where", gone, statistics, rows), kept, axis=1)
    node.finish(_indicated(node, result, gone, model), operator)


def _indicator(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    gone = _missing(node, node.joined(operator), model)
    node.finish(_marks(node, gone, model), operator)


def _nearest(scope: Any, operator: Any, container: Any) -> None:
    """Convert KNNImputer: a missing value becomes the column's mean in the nearest rows that have it.

    Columns that the same known rows have share a search. scikit-learn may choose any of several equally near
    rows; here it is the first.
    """
    node = Nodes(scope, operator, container, "float64")
    model, rows = operator.raw_operator, node.joined(operator)
    known = _known(model)
    gone = _missing(node, rows, model)
    absent = np.asarray(model._mask_fit_X, bool)
    distances = _distances(node, node("Where", gone, _NOTHING, rows), gone, known, absent)
    searches: dict[bytes, tuple[str, str]] = {}
    columns = []
    for place in np.flatnonzero(_kept(model)).tolist():
        if absent[:, place].all():
            columns.append(node("Mul", node("Cast", node.column(gone, place), to="float64"), _NOTHING))
            continue
        lacking = absent[:, place]
        if lacking.tobytes() not in searches:
            searches[lacking.tobytes()] = _search(node, distances, lacking, model)
        places, shares = searches[lacking.tobytes()]
        found = node("Mul", node("Gather", known[:, place], places, axis=0), shares)
        whole = node.summed(shares)
        mean = known[~lacking, place].mean(keepdims=True)[None]
        value = node("Where", node("Equal", whole, _NOTHING), mean, node("Div", node.summed(found), whole))
        columns.append(node("Where", node.column(gone, place), value, node.column(rows, place)))
    node.finish(_indicated(node, node("Concat", *columns, axis=1), gone, model), operator)


def _known(model: Any) -> npt.NDArray[np.float64]:
    """Return the known rows, with zero in place of missing values.

    Raises:
        ConversionFailed: another metric or weights, or too many numbers for the graph.
    """
    if model.metric != "nan_euclidean" or model.weights not in ("uniform", "distance"):
        raise ConversionFailed(
            "There is no converter for a KNNImputer with a custom metric or custom weights."
        )
    points = np.asarray(model._fit_X, np.float64)
    if points.shape[1] > _MOST_COLUMNS or points.size > _MOST_NUMBERS:
        raise ConversionFailed(
            f"There is no converter for a KNNImputer of {len(points):,} rows and {points.shape[1]} "
            f"columns: at most {_MOST_COLUMNS} columns and {_MOST_NUMBERS:,} numbers are supported. "
            "Fit it on fewer."
        )
    return np.where(model._mask_fit_X, 0.0, points)


def _distances(
    node: Nodes, rows: str, gone: str, known: npt.NDArray[np.float64], absent: npt.NDArray[np.bool_]
) -> str:
    """Return float64[N, known], infinite if two rows share no column.

    The order of the terms is that of scikit-learn's ``nan_euclidean_distances``: it decides between rows
    whose distances differ only by rounding.
    """
    gone, here = node("Cast", gone, to="float64"), node("Cast", node("Not", gone), to="float64")
    own, squares = node("Mul", rows, rows), np.square(known)
    total = node("Add", node("MatMul", rows, -2 * known.T), node.summed(own))
    total = node("Max", node("Add", total, squares.sum(axis=1)), _NOTHING)
    total = node("Sub", total, node("MatMul", own, absent.T.astype(np.float64)))
    total = node("Sub", total, node("MatMul", gone, squares.T))
    shared = node("MatMul", here, (~absent.T).astype(np.float64))
    total = node("Div", node("Max", total, _NOTHING), node("Max", shared, np.array(1.0)))
    distance = node("Sqrt", node("Mul", total, np.array(float(known.shape[1]))))
    return node("Where", node("Equal", shared, _NOTHING), np.array(np.inf), distance)


def _search(node: Nodes, distances: str, lacking: npt.NDArray[np.bool_], model: Any) -> tuple[str, str]:
    """Return (places, weights), [N, neighbours], of the nearest rows that have the column.

    A weight is 0 if too few rows share a column with the input.
    """
    if lacking.any():
        distances = node("Where", lacking[None], np.array(np.inf), distances)
    count = min(int(model.n_neighbors), int((~lacking).sum()))
    wanted: dict[str, Any] = {"axis": 1, "largest": 0, "sorted": 1}
    found, places = node.several("TopK", distances, np.array([count]), count=2, **wanted)
    return places, weights(node, found, by_distance=model.weights == "distance")


def _kept(model: Any) -> npt.NDArray[np.bool_]:
    valid = np.asarray(model._valid_mask, bool)
    return np.ones_like(valid) if model.keep_empty_features else valid


def _width(model: Any) -> int:
    return int(_kept(model).sum()) + (len(model.indicator_.features_) if model.add_indicator else 0)


def _missing(node: Nodes, rows: str, model: Any) -> str:
    """Return a bool mask of the model's ``missing_values``."""
    absent = model.missing_values
    if not isinstance(absent, (int, float, np.number)):
        raise ConversionFailed(
            f"There is no converter for a {type(model).__name__} with {absent!r} as the missing value."
        )
    return node("IsNaN", rows) if np.isnan(absent) else node("Equal", rows, np.array([float(absent)]))


def _indicated(node: Nodes, result: str, gone: str, model: Any) -> str:
    """Return the result, with the marks of the imputer's indicator appended."""
    return (
        node("Concat", result, _marks(node, gone, model.indicator_), axis=1)
        if model.add_indicator
        else result
    )


def _marks(node: Nodes, gone: str, indicator: Any) -> str:
    chosen = node("Gather", gone, np.asarray(indicator.features_, np.int64), axis=1)
    return node("Cast", chosen, to=node.dtype)
