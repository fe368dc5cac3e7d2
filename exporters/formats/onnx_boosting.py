"""Convert LightGBM and histogram gradient boosting to ONNX, from the source's own tables.

Their converters in onnxmltools and skl2onnx lack categories, ``linear_tree`` and the averages of LightGBM's
random forests, and take seconds for thousands of nodes.
"""

from typing import Any

import numpy as np

from ..errors import ConversionFailed
from ..sources import trees
from .onnx_encoders import encoded
from .onnx_ensembles import summed
from .onnx_nodes import Nodes

_EXPONENTIAL = ("poisson", "gamma", "tweedie")
_IDENTITY = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "lambdarank",
    "rank_xendcg",
)


def lightgbm(scope: Any, operator: Any, container: Any) -> None:
    """Convert LGBMClassifier, LGBMRegressor and LGBMRanker."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    described = model.booster_.dump_model()
    outputs = int(described["num_tree_per_iteration"])
    found = list(trees.fitted_trees(model))
    if not found:
        raise ConversionFailed("The model has no tree. Fit it with at least one iteration.")
    targets = [place % outputs for place in range(len(found))]
    score = node(
        "Cast", summed(node, node.joined(operator), found, targets, outputs, dtype=node.dtype), to=node.dtype
    )
    if described.get("average_output"):
        score = node("Div", score, np.array(len(found) / outputs))
    objective, *words = str(described.get("objective", "")).split() or [""]
    parameters = dict(word.partition(":")[::2] for word in words)
    slope = np.array(float(parameters.get("sigmoid") or 1.0))
    if hasattr(model, "classes_"):
        if objective == "binary":
            second = node("Sigmoid", node("Mul", score, slope))
            shares = node("Concat", node("Sub", np.ones((1, 1)), second), second, axis=1)
        elif objective == "multiclass":
            shares = node("Softmax", score, axis=1)
        elif objective == "multiclassova":
            shares = node("Sigmoid", node("Mul", score, slope))
        else:
            raise ConversionFailed(
                f"There is no converter for LightGBM's objective {objective!r} with classes."
            )
        node.classify(shares, operator)
        return
    if objective in _EXPONENTIAL:
        score = node("Exp", score)
    elif objective == "regression" and "sqrt" in parameters:
        score = node("Mul", score, node("Abs", score))
    elif objective == "cross_entropy":
        score = node("Sigmoid", score)
    elif objective not in _IDENTITY:
        raise ConversionFailed(f"There is no converter for LightGBM's objective {objective!r}.")
    node.finish(score, operator)


def histogram(scope: Any, operator: Any, container: Any) -> None:
    """Convert HistGradientBoostingClassifier and HistGradientBoostingRegressor."""
    node = Nodes(scope, operator, container)
    model, rows = operator.raw_operator, node.joined(operator)
    if model._preprocessor is not None:
        rows = _with_codes(node, model._preprocessor, rows)
    found = [trees.histogram(one, int(model.n_features_in_)) for stage in model._predictors for one in stage]
    outputs = int(model.n_trees_per_iteration_)
    targets = [place % outputs for place in range(len(found))]
    score = summed(node, rows, found, targets, outputs, dtype=node.dtype)
    base = np.asarray(model._baseline_prediction, np.float64).reshape(1, -1)
    score = node("Add", node("Cast", score, to=node.dtype), base)
    link = type(model._loss.link).__name__
    if not hasattr(model, "classes_"):
        if link not in ("IdentityLink", "LogLink"):
            raise ConversionFailed(f"There is no converter for the link {link}.")
        node.finish(node("Exp", score) if link == "LogLink" else score, operator)
        return
    scores = node("Concat", node("Neg", score), score, axis=1) if outputs == 1 else score
    if container.get_options(model, {"raw_scores": False})["raw_scores"]:
        node.classify(scores, operator)
    elif outputs == 1:
        second = node("Sigmoid", score)
        shares = node("Concat", node("Sub", np.ones((1, 1)), second), second, axis=1)
        node.classify(shares, operator)
    else:
        node.classify(node("Softmax", score, axis=1), operator)


def _with_codes(node: Nodes, columns: Any, rows: str) -> str:
    """Return the encoded categories, then the numbers, in the estimator's own order of columns."""
    places = columns._transformer_to_input_indices
    parts = []
    for name in ("encoder", "numerical"):
        if not len(places[name]):
            continue
        chosen = node("Gather", rows, np.asarray(places[name], np.int64), axis=1)
        parts.append(
            encoded(node, columns.named_transformers_[name], chosen) if name == "encoder" else chosen
        )
    return node("Concat", *parts, axis=1)
