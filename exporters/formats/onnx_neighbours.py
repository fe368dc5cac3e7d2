"""Convert estimators that use the nearest of some points: neighbours, and clusters by their centres.

scikit-learn computes in float64. For a row far away from all points, they are equally near, and the order of
the points decides which ones are chosen. It is the order of scikit-learn's search tree, which is used here
too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from . import onnx_kinds
from .onnx_kinds import Convert
from .onnx_nodes import Nodes

_MOST_COLUMNS = 64  # a larger search needs too many operators
_NOTHING, _ONE = np.array(0.0), np.array(1.0)


def register() -> None:
    """Register the converters of this module."""
    from skl2onnx.common import _registration as registration
    from sklearn.cluster import AffinityPropagation, MeanShift

    for name, ours in (
        ("KNeighborsClassifier", _neighbours),
        ("KNeighborsRegressor", _neighbours),
        ("KNeighborsTransformer", _graph),
        ("LocalOutlierFactor", _local_outliers),
        ("RadiusNeighborsClassifier", _within_radius),
        ("RadiusNeighborsRegressor", _within_radius),
    ):
        theirs = registration.get_converter(f"Sklearn{name}")
        chosen = _ours_or_theirs(ours, theirs._fct)
        registration.register_converter(f"Sklearn{name}", chosen, overwrite=True, options=theirs._options)
    for model in (AffinityPropagation, MeanShift):
        onnx_kinds.finder(model, _clusters, lambda model: len(model.cluster_centers_))


def _ours_or_theirs(ours: Convert, theirs: Convert) -> Convert:
    """Return ``ours`` for k-d trees with Euclidean distance and one target, otherwise ``theirs``."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        model = operator.raw_operator
        known = (
            model._fit_method == "kd_tree"
            and model.effective_metric_ == "euclidean"
            and model.n_features_in_ <= _MOST_COLUMNS
            and np.ndim(getattr(model, "_y", 0)) < 2
            and getattr(model, "weights", "uniform") in ("uniform", "distance")
        )
        (ours if known else theirs)(scope, operator, container)

    return convert


class _Search:
    """The nearest points of each row: ``squares`` of the distances and ``places``, [N, count].

    ``order``: the index of the point at each place.
    """

    def __init__(self, scope: Any, operator: Any, container: Any) -> None:
        self.node = Nodes(scope, operator, container, "float64")
        self.model = operator.raw_operator
        self.order = np.asarray(self.model._tree.idx_array)
        points = np.asarray(self.model._fit_X, np.float64)[self.order]
        self.all_squares = _squares(self.node, self.node.joined(operator), points)

    def nearest(self, count: int) -> tuple[str, str]:
        wanted: dict[str, Any] = {"axis": 1, "largest": 0, "sorted": 1}
        squares, places = self.node.several("TopK", self.all_squares, np.array([count]), count=2, **wanted)
        return squares, places


def _neighbours(scope: Any, operator: Any, container: Any) -> None:
    search = _Search(scope, operator, container)
    node, model = search.node, search.model
    squares, places = search.nearest(int(model.n_neighbors))
    shares = weights(node, node("Sqrt", squares), by_distance=model.weights == "distance")
    values = np.asarray(model._y)[search.order]
    whole = node.summed(shares)
    if not hasattr(model, "classes_"):
        found = node("Gather", values.astype(np.float64), places, axis=0)
        node.finish(node("Div", node.summed(node("Mul", found, shares)), whole), operator)
        return
    found = node("Gather", values.astype(np.int64), places, axis=0)
    classes = range(len(model.classes_))
    each = [node("Cast", node("Equal", found, np.array(one)), to="float64") for one in classes]
    votes = node("Concat", *(node.summed(node("Mul", one, shares)) for one in each), axis=1)
    node.finish_label(node("ArgMax", votes, axis=1, keepdims=0), operator)
    node.finish(node("Div", votes, whole), operator, 1)


def _graph(scope: Any, operator: Any, container: Any) -> None:
    """Convert KNeighborsTransformer: a column for each known point, zero except for the neighbours."""
    search = _Search(scope, operator, container)
    node, model = search.node, search.model
    by_distance = model.mode == "distance"
    squares, places = search.nearest(int(model.n_neighbors) + by_distance)
    distance = node("Sqrt", squares)
    values = distance if by_distance else weights(node, distance, by_distance=False)
    empty = node("Mul", search.all_squares, _NOTHING)
    columns = node("Gather", search.order.astype(np.int64), places, axis=0)
    node.finish(node("ScatterElements", empty, columns, values, axis=1), operator)


def _local_outliers(scope: Any, operator: Any, container: Any) -> None:
    """Convert LocalOutlierFactor: the neighbours' density divided by the row's (Breunig et al., 2000)."""
    search = _Search(scope, operator, container)
    node, model = search.node, search.model
    count = int(model.n_neighbors_)
    squares, places = search.nearest(count)
    reach = np.asarray(model._distances_fit_X_)[search.order, model.n_neighbors_ - 1]
    reached = node("Max", node("Sqrt", squares), node("Gather", reach, places, axis=0))
    reached = node("Div", node.summed(reached), np.array(float(count)))
    around_row = node("Div", _ONE, node("Add", reached, np.array(1e-10)))
    around = node("Gather", np.asarray(model._lrd, np.float64)[search.order], places, axis=0)
    outlying = node("Div", node.summed(node("Div", around, around_row)), np.array(-float(count)))
    score = node("Sub", outlying, np.array(float(model.offset_)))
    label = node("Where", node("Less", score, _NOTHING), np.array(-1), np.array(1))
    node.finish_label(label, operator)
    node.finish(score, operator, 1)


def _within_radius(scope: Any, operator: Any, container: Any) -> None:
    """Convert neighbours within a radius; all points have the same weight."""
    search = _Search(scope, operator, container)
    node, model = search.node, search.model
    if model.weights != "uniform":
        raise ConversionFailed("There is no converter for neighbours within a radius, weighted by distance.")
    near = node("Not", node("Greater", search.all_squares, np.array(float(model.radius) ** 2)))
    near = node("Cast", near, to="float64")
    values = np.asarray(model._y)[search.order]
    count = node.summed(near)
    if not hasattr(model, "classes_"):
        total = node("MatMul", near, values.astype(np.float64)[:, None])
        with np.errstate(invalid="ignore"):
            none = np.full_like(values[:1], np.nan).astype(np.float64)  # NaN does not exist for whole numbers
        node.finish(
            node("Where", node("Equal", count, _NOTHING), none[None], node("Div", total, count)), operator
        )
        return
    known = np.eye(len(model.classes_))
    votes = node("MatMul", near, known[values])
    if model.outlier_label_ is not None:
        outlier = (np.asarray(model.classes_) == model.outlier_label_).astype(np.float64)
        alone = node("Equal", count, _NOTHING)
        votes = node("Where", alone, outlier[None], votes)
        count = node("Where", alone, np.full((1, 1), max(outlier.sum(), 1.0)), count)
    node.finish_label(node("ArgMax", votes, axis=1, keepdims=0), operator)
    node.finish(node("Div", votes, count), operator, 1)


def _squares(node: Nodes, rows: str, points: npt.NDArray[np.float64]) -> str:
    """Return the squared distances, float64[N, points], added column by column like scikit-learn's tree."""
    total = ""
    for place, column in enumerate(points.T):
        apart = node("Sub", node.column(rows, place), column[None])
        square = node("Mul", apart, apart)
        total = node("Add", total, square) if total else square
    return total


def weights(node: Nodes, distance: str, *, by_distance: bool) -> str:
    """Return the neighbours' weights: equal, or by distance; a neighbour at distance 0 then has all of it.

    An infinite distance has weight 0.
    """
    if not by_distance:
        return node("Cast", node("Not", node("IsInf", distance)), to="float64")
    itself = node("Cast", node("Equal", distance, _NOTHING), to="float64")
    some = node("Greater", node.summed(itself), _NOTHING)
    return node("Where", some, itself, node("Div", _ONE, distance))


def _clusters(scope: Any, operator: Any, container: Any) -> None:
    """Return the nearest centre; the first of equally near ones. The order of the terms is scikit-learn's."""
    node = Nodes(scope, operator, container, "float64")
    centers, rows = np.asarray(operator.raw_operator.cluster_centers_, np.float64), node.joined(operator)
    own = node.summed(node("Mul", rows, rows))
    squares = node(
        "Add", node("Add", own, node("MatMul", rows, -2 * centers.T)), np.square(centers).sum(axis=1)
    )
    squares = node("Max", squares, _NOTHING)
    node.finish_label(node("ArgMin", squares, axis=1, keepdims=0), operator)
    node.finish(squares, operator, 1)
