"""Convert estimators that compare a row with known points by a kernel, and approximations of kernels."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from . import onnx_kinds
from .onnx_nodes import Nodes


def register() -> None:
    """Register the converters of this module."""
    from sklearn.kernel_approximation import AdditiveChi2Sampler, Nystroem, SkewedChi2Sampler
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.semi_supervised import LabelPropagation, LabelSpreading

    for model, convert, width in (
        (KernelRidge, _ridge, lambda model: 1 if model.dual_coef_.ndim == 1 else model.dual_coef_.shape[1]),
        (Nystroem, _nystroem, lambda model: len(model.components_)),
        (SkewedChi2Sampler, _skewed, lambda model: model.random_weights_.shape[1]),
        (AdditiveChi2Sampler, _additive, lambda model: model.n_features_in_ * (2 * model.sample_steps - 1)),
    ):
        onnx_kinds.transformer(model, convert, width)
    for model in (LabelPropagation, LabelSpreading):
        onnx_kinds.classifier(model, _propagated)


def _kernel(node: Nodes, rows: str, points: npt.NDArray[Any], model: Any) -> str:
    """Return the kernel [N, points] in float64. The defaults are those of sklearn.metrics.pairwise."""
    points = np.asarray(points, np.float64)
    given = {name: getattr(model, name, None) for name in ("gamma", "coef0", "degree")}
    gamma = 1.0 / points.shape[1] if given["gamma"] is None else float(given["gamma"])
    offset = 1.0 if given["coef0"] is None else float(given["coef0"])
    degree = 3.0 if given["degree"] is None else float(given["degree"])
    product = node("MatMul", rows, points.T)
    if getattr(model, "kernel_params", None):
        raise ConversionFailed("There is no converter for a kernel with its own parameters.")
    if model.kernel == "linear":
        return product
    if model.kernel in ("poly", "polynomial"):
        return node(
            "Pow", node("Add", node("Mul", product, np.array(gamma)), np.array(offset)), np.array(degree)
        )
    if model.kernel == "sigmoid":
        return node("Tanh", node("Add", node("Mul", product, np.array(gamma)), np.array(offset)))
    if model.kernel == "rbf":
        own = node.summed(node("Mul", rows, rows))
        far = node(
            "Add", node("Sub", own, node("Mul", product, np.array(2.0))), np.square(points).sum(axis=1)
        )
        return node("Exp", node("Mul", node("Max", far, np.array(0.0)), np.array(-gamma)))
    raise ConversionFailed(f"There is no converter for the kernel {str(model.kernel)!r}.")


def _ridge(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container, "float64")
    model = operator.raw_operator
    kernel = _kernel(node, node.joined(operator), model.X_fit_, model)
    slopes = np.asarray(model.dual_coef_, np.float64).reshape(len(model.X_fit_), -1)
    node.finish(node("MatMul", kernel, slopes), operator)


def _nystroem(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container, "float64")
    model = operator.raw_operator
    kernel = _kernel(node, node.joined(operator), model.components_, model)
    node.finish(node("MatMul", kernel, np.asarray(model.normalization_, np.float64).T), operator)


def _propagated(scope: Any, operator: Any, container: Any) -> None:
    """Convert LabelPropagation and LabelSpreading: the known rows' labels, averaged by kernel weights."""
    node = Nodes(scope, operator, container, "float64")
    model = operator.raw_operator
    if model.kernel != "rbf":
        raise ConversionFailed(f"There is no converter for the kernel {str(model.kernel)!r}.")
    kernel = _kernel(node, node.joined(operator), model.X_, model)
    known = node("MatMul", kernel, np.asarray(model.label_distributions_, np.float64))
    shares = node("Div", known, node.summed(known))
    node.finish_label(node("ArgMax", shares, axis=1, keepdims=0), operator)
    node.finish(shares, operator, 1)


def _skewed(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container, "float64")
    model = operator.raw_operator
    logarithm = node("Log", node("Add", node.joined(operator), np.array(float(model.skewedness))))
    angle = node("Add", node("MatMul", logarithm, model.random_weights_), model.random_offset_)
    node.finish(node("Mul", node("Cos", angle), np.array(np.sqrt(2.0 / model.n_components))), operator)


def _additive(scope: Any, operator: Any, container: Any) -> None:
    """Convert AdditiveChi2Sampler: Vedaldi and Zisserman (2011); zero stays zero."""
    node = Nodes(scope, operator, container, "float64")
    model, rows = operator.raw_operator, node.joined(operator)
    interval = model.sample_interval or {1: 0.8, 2: 0.5, 3: 0.4}[model.sample_steps]
    zero = node("Equal", rows, np.array(0.0))
    logarithm = node("Log", node("Where", zero, np.array(1.0), rows))
    found = [node("Sqrt", node("Mul", rows, np.array(interval)))]
    for step in range(1, model.sample_steps):
        size = node("Sqrt", node("Mul", rows, np.array(2 * interval / np.cosh(np.pi * step * interval))))
        angle = node("Mul", logarithm, np.array(step * interval))
        found += [node("Mul", size, node(wave, angle)) for wave in ("Cos", "Sin")]
    node.finish(node("Concat", *found, axis=1), operator)
