"""Convert mixtures of normal distributions in float64: far away from them, a density is zero in float32."""

from typing import Any

import numpy as np
import numpy.typing as npt

from .onnx_nodes import Nodes

Numbers = npt.NDArray[np.float64]


def register() -> None:
    """Replace skl2onnx's converter by that of this module."""
    from skl2onnx.common import _registration as registration

    for name in ("GaussianMixture", "BayesianGaussianMixture"):
        alias = f"Sklearn{name}"
        options = registration.get_converter(alias)._options
        registration.register_converter(alias, _mixture, overwrite=True, options=options)


def _mixture(scope: Any, operator: Any, container: Any) -> None:
    """Return component and shares. ``score_samples``, an option of skl2onnx, is not supported."""
    node = Nodes(scope, operator, container, "float64")
    model, rows = operator.raw_operator, node.joined(operator)
    means = np.asarray(model.means_, np.float64)
    # The part that does not depend on the row, as the mixture itself adds it up at its first mean.
    distances = _distances(node, rows, model, means)
    known = model._estimate_weighted_log_prob(means[:1])
    constant = np.asarray(known)[0] + 0.5 * _distances_at(model, means, means[0])
    score = node("Add", node("Mul", distances, np.array(-0.5)), constant)
    node.finish_label(node("ArgMax", score, axis=1, keepdims=0), operator)
    # The same order even if the logarithm of the sum is lost beside the scores.
    most, _ = node.several("TopK", score, np.array([1]), count=2, axis=1)
    rest = node.summed(node("Exp", node("Sub", score, most)))
    whole = node("Add", node("Log", rest), most)
    node.finish(node("Exp", node("Sub", score, whole)), operator, 1)


def _factors(model: Any, component: int, width: int) -> Numbers:
    """Return the factors of a component's precision: [width, width], or [width] if it is diagonal."""
    factors = np.asarray(model.precisions_cholesky_, np.float64)
    if model.covariance_type == "tied":
        return factors
    if model.covariance_type == "spherical":
        return np.full(width, factors[component])
    return np.asarray(factors[component], np.float64)


def _distances(node: Nodes, rows: str, model: Any, means: Numbers) -> str:
    """Return Mahalanobis' squared distance of each row from each mean."""
    found = []
    for component, mean in enumerate(means):
        factor = _factors(model, component, len(mean))
        if factor.ndim == 2:
            apart = node("Sub", node("MatMul", rows, factor), mean @ factor)
        else:
            apart = node("Sub", node("Mul", rows, factor), mean * factor)
        found.append(node.summed(node("Mul", apart, apart)))
    return node("Concat", *found, axis=1)


def _distances_at(model: Any, means: Numbers, row: Numbers) -> Numbers:
    found = []
    for component, mean in enumerate(means):
        factor = _factors(model, component, len(mean))
        apart = (row - mean) @ factor if factor.ndim == 2 else (row - mean) * factor
        found.append(np.square(apart).sum())
    return np.array(found)
