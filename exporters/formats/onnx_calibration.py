"""Calibrated classifiers and isotonic regression as ONNX operators."""

from typing import Any

import numpy as np

from ..errors import ConversionFailed
from .onnx_nodes import Nodes


def isotonic(scope: Any, operator: Any, container: Any) -> None:
    node = Nodes(scope, operator, container)
    node.finish(_interpolated(node, operator.raw_operator, node.joined(operator)), operator)


def _interpolated(node: Nodes, regression: Any, value: str) -> str:
    """Interpolate a value [N, 1] linearly between the thresholds; skl2onnx takes the nearest threshold."""
    xs, ys = (np.asarray(one, np.float64) for one in (regression.X_thresholds_, regression.y_thresholds_))
    first = np.full((1, 1), ys[0])
    if len(xs) == 1:
        return node("Add", node("Mul", value, np.zeros((1, 1))), first)
    share = node("Div", node("Sub", value, xs[None, :-1]), np.diff(xs)[None])
    share = node("Clip", share, np.array(0.0), np.array(1.0))
    found = node("Add", node("MatMul", share, np.diff(ys)[:, None]), first)
    if regression.out_of_bounds == "clip":
        return found
    outside = node("Or", node("Less", value, xs[None, :1]), node("Greater", value, xs[None, -1:]))
    return node("Where", outside, np.full((1, 1), np.nan), found)


def calibrated(scope: Any, operator: Any, container: Any) -> None:
    """Convert to the mean of the calibrated classifiers' outputs, and the class with the largest mean."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    each = [_one_calibrated(node, scope, operator, container, one) for one in model.calibrated_classifiers_]
    mean = node("Div", node("Sum", *each), np.array(float(len(each))))
    node.classify(mean, operator)


def _one_calibrated(node: Nodes, scope: Any, operator: Any, container: Any, one: Any) -> str:
    if one.method not in ("sigmoid", "isotonic"):
        raise ConversionFailed(f"There is no converter for the calibration method {one.method!r}.")
    scores = _scores(scope, operator, container, one.estimator)
    places = np.searchsorted(one.classes, one.estimator.classes_).tolist()
    count = len(one.classes)
    found: dict[int, str] = {}
    for column, (place, calibrator) in enumerate(zip(places, one.calibrators, strict=False)):
        column, place = (1, 1) if count == 2 else (column, place)
        value = node.column(scores, column)
        if one.method == "isotonic":
            found[place] = _interpolated(node, calibrator, value)
        else:
            line = node("Add", node("Mul", value, np.array(-calibrator.a_)), np.array(-calibrator.b_))
            found[place] = node("Sigmoid", line)
    if count == 2:
        return node("Concat", node("Sub", np.array(1.0), found[1]), found[1], axis=1)
    nothing = node("Mul", next(iter(found.values())), np.array(0.0))
    every = node("Concat", *(found.get(place, nothing) for place in range(count)), axis=1)
    total = node("MatMul", every, np.ones((count, 1)))
    none = node("Equal", total, np.array(0.0))
    whole = node("Where", none, np.array(1.0), total)
    return node("Where", none, np.array(1.0 / count), node("Div", every, whole))


def _scores(scope: Any, operator: Any, container: Any, classifier: Any) -> str:
    """Return a classifier's scores per class: its decision function, or its probabilities if it has none."""
    from skl2onnx._parse import _parse_sklearn
    from skl2onnx._supported_operators import _get_sklearn_operator_name
    from skl2onnx.common import _registration as registration

    last = classifier.steps[-1][1] if hasattr(classifier, "steps") else classifier
    wanted = {"zipmap": False} | ({"raw_scores": True} if hasattr(classifier, "decision_function") else {})
    known = registration.get_converter(_get_sklearn_operator_name(type(last)))._options or {}
    for options in (scope, container):
        options.add_options(id(last), options={key: wanted[key] for key in wanted if key in known})
    name: str = _parse_sklearn(scope, classifier, operator.inputs)[1].full_name
    return name
