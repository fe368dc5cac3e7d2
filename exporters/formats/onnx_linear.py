"""Convert estimators that multiply by a matrix or return a constant, which skl2onnx lacks or gets wrong."""

from typing import Any

import numpy as np

from ..errors import ConversionFailed
from . import onnx_kinds
from .onnx_nodes import Nodes


def register() -> None:
    """Register the converters of this module."""
    from sklearn.cluster import FeatureAgglomeration
    from sklearn.covariance import EllipticEnvelope
    from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical
    from sklearn.decomposition import FactorAnalysis, FastICA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.neural_network import BernoulliRBM

    for model, convert, width in (
        (FastICA, _independent, lambda model: len(model.components_)),
        (FactorAnalysis, _factors, lambda model: len(model.components_)),
        (BernoulliRBM, _hidden, lambda model: len(model.components_)),
        (CCA, _least_squares, lambda model: len(model.coef_)),
        (PLSCanonical, _least_squares, lambda model: len(model.coef_)),
        (PLSSVD, _weighted, lambda model: model.x_weights_.shape[1]),
        (FeatureAgglomeration, _pooled, lambda model: int(model.n_clusters_)),
        (DummyRegressor, _constant, lambda model: model.constant_.size),
    ):
        onnx_kinds.transformer(model, convert, width)
    onnx_kinds.classifier(DummyClassifier, _constant_class)
    onnx_kinds.classifier(LinearDiscriminantAnalysis, _discriminant)
    onnx_kinds.finder(EllipticEnvelope, _envelope, lambda model: 1)


def _discriminant(scope: Any, operator: Any, container: Any) -> None:
    """Convert LinearDiscriminantAnalysis: for two classes, both probabilities follow from one score."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    score = node("Add", node("MatMul", node.joined(operator), model.coef_.T), np.atleast_1d(model.intercept_))
    if len(model.classes_) == 2:
        place = node("Cast", node("Greater", score, np.array(0.0)), to="int64")
        second = node("Sigmoid", score)
        shares = node("Concat", node("Sub", np.array(1.0), second), second, axis=1)
        place = node("Reshape", place, np.array([-1]))
    else:
        place, shares = node("ArgMax", score, axis=1, keepdims=0), node("Softmax", score, axis=1)
    node.finish_label(place, operator)
    node.finish(shares, operator, 1)


def _independent(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    model, rows = operator.raw_operator, node.joined(operator)
    if model.whiten:
        rows = node("Sub", rows, model.mean_)
    node.finish(node("MatMul", rows, model.components_.T), operator)


def _factors(scope: Any, operator: Any, container: Any) -> None:
    """Convert FactorAnalysis: the expected latent variables (Barber, "Bayesian Reasoning", 21.2.33)."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    scaled = model.components_ / model.noise_variance_
    spread = np.linalg.inv(np.eye(len(model.components_)) + scaled @ model.components_.T)
    node.finish(node("MatMul", node("Sub", node.joined(operator), model.mean_), scaled.T @ spread), operator)


def _hidden(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    score = node("MatMul", node.joined(operator), model.components_.T)
    node.finish(node("Sigmoid", node("Add", score, model.intercept_hidden_)), operator)


def _least_squares(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    rows = node("Sub", node.joined(operator), model._x_mean)
    node.finish(node("Add", node("MatMul", rows, model.coef_.T), model.intercept_), operator)


def _weighted(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    rows = node("Div", node("Sub", node.joined(operator), model._x_mean), model._x_std)
    node.finish(node("MatMul", rows, model.x_weights_), operator)


def _pooled(scope: Any, operator: Any, container: Any) -> None:
    """Convert FeatureAgglomeration: the mean of the columns of each cluster."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    if model.pooling_func is not np.mean:
        raise ConversionFailed("There is no converter for a FeatureAgglomeration with this pooling function.")
    _, places = np.unique(model.labels_, return_inverse=True)
    members = np.eye(places.max() + 1)[places]
    node.finish(node("MatMul", node.joined(operator), members / members.sum(axis=0)), operator)


def _repeated(node: Nodes, rows: str, values: Any) -> str:
    """Return the same values for each row."""
    count = node("Gather", node("Shape", rows), np.array([0]))
    shape = node("Concat", count, np.array([values.size]), axis=0)
    return node("Expand", values.reshape(1, -1), shape)


def _constant(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    node.finish(
        _repeated(node, node.joined(operator), np.asarray(operator.raw_operator.constant_, np.float64)),
        operator,
    )


def _constant_class(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    model, rows = operator.raw_operator, node.joined(operator)
    if model.strategy not in ("prior", "most_frequent", "constant"):
        raise ConversionFailed(
            f"There is no converter for a DummyClassifier with the strategy {model.strategy!r}."
        )
    one_row = np.zeros((1, operator.inputs[0].type.shape[1] or 1))
    shares = _repeated(node, rows, model.predict_proba(one_row))
    place = int(np.flatnonzero(model.classes_ == model.predict(one_row)[0])[0])
    whole = node("Cast", _repeated(node, rows, np.array(float(place))), to="int64")
    node.finish_label(node("Reshape", whole, np.array([-1])), operator)
    node.finish(shares, operator, 1)


def _envelope(scope: Any, operator: Any, container: Any) -> None:
    """Convert EllipticEnvelope: Mahalanobis' squared distance from the location."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    apart = node("Sub", node.joined(operator), model.location_)
    product = node("Mul", node("MatMul", apart, model.get_precision()), apart)
    far = node.summed(product)
    score = node("Sub", node("Neg", far), np.array(float(model.offset_)))
    label = node("Where", node("Less", score, np.array(0.0)), np.array(-1), np.array(1))
    node.finish_label(node("Reshape", label, np.array([-1])), operator)
    node.finish(score, operator, 1)
