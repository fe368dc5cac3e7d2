"""Convert XGBoost to ONNX from the model itself, if onnxmltools' conversion is wrong or missing.

Every kind of booster is read as a table: trees with their weights, or the coefficients of ``gblinear``. A
split by categories compares an extra column, which a table of its categories fills.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from ..sources.trees import fitted_trees, preorder
from .onnx_ensembles import selected, summed
from .onnx_nodes import Nodes

_LOGISTIC = ("binary:logistic", "reg:logistic")
_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie")
_IDENTITY = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:squaredlogerror", "rank:")


def is_ours(model: Any) -> bool:
    """Return whether a model is converted here: onnxmltools converts all others correctly."""
    learner = _learner(model)
    booster = learner["gradient_booster"]
    trees = booster.get("model", {}).get("trees", ())
    return (
        booster["name"] != "gbtree"
        or any(any(tree["split_type"]) or _has_vectors(tree) for tree in trees)
        or int(learner["learner_model_param"]["num_target"]) > 1
        or learner["objective"]["name"].startswith("rank:")
        or (type(model).__name__ == "XGBRFClassifier" and len(model.classes_) > 2)
    )


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Write the nodes of one model."""
    node = Nodes(scope, operator, container)
    model = operator.raw_operator
    learner = _learner(model)
    rows = node("Cast", node.joined(operator), to="float32")
    score = _score(node, rows, learner, model)
    base = np.asarray(json.loads(learner["learner_model_param"]["base_score"]), np.float64).reshape(1, -1)
    objective = learner["objective"]["name"]
    if learner["gradient_booster"]["name"] == "gblinear":
        base = base[:, :1]
    if objective in _LOGISTIC:
        base = np.log(base / (1 - base))
    elif objective in _EXPONENTIAL:
        base = np.log(base)
    elif not objective.startswith((*_IDENTITY, "multi:")):
        raise ConversionFailed(f"There is no converter for XGBoost's objective {objective!r}.")
    score = node("Add", score, node("Cast", base.astype(np.float32), to="float32"))
    if objective in _EXPONENTIAL:
        score = node("Exp", score)
    if not hasattr(model, "classes_"):
        score = node("Sigmoid", score) if objective in _LOGISTIC else score
        node.finish(node("Cast", score, to=node.dtype), operator)
        return
    if objective in _LOGISTIC:
        second = node("Sigmoid", score)
        shares = node(
            "Concat", node("Sub", node("Cast", np.ones((1, 1)), to="float32"), second), second, axis=1
        )
    else:
        shares = node("Softmax", score, axis=1)
    node.classify(node("Cast", shares, to=node.dtype), operator)


def _learner(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    return found


def _score(node: Nodes, rows: str, learner: dict[str, Any], model: Any) -> str:
    booster, sizes = learner["gradient_booster"], learner["learner_model_param"]
    width = int(sizes["num_feature"])
    outputs = max(int(sizes["num_class"]), int(sizes["num_target"]), 1)
    if booster["name"] == "gblinear":
        table = np.asarray(booster["model"]["weights"], np.float32).reshape(width + 1, outputs)
        # A missing value contributes nothing; each output begins with the first one's base score.
        rows = node("Where", node("IsNaN", rows), node("Cast", np.zeros((1, 1)), to="float32"), rows)
        slopes, bias = (node("Cast", one, to="float32") for one in (table[:-1], table[-1:]))
        return node("Add", node("MatMul", rows, slopes), bias)
    held = booster.get("gbtree", booster)["model"]
    best = learner["attributes"].get("best_iteration")
    count = held["iteration_indptr"][int(best) + 1] if best is not None else len(held["trees"])
    trees = fitted_trees(model)[:count]
    if any(map(_has_vectors, held["trees"])):
        return selected(
            node, rows, trees, [_vectors(tree) for tree in held["trees"][:count]], dtype="float32"
        )
    return summed(node, rows, trees, held["tree_info"][:count], outputs, dtype="float32")


def _has_vectors(tree: dict[str, Any]) -> bool:
    """Return whether a leaf has a value for each target, as with ``multi_output_tree``."""
    return int(tree["tree_param"]["size_leaf_vector"]) > 1


def _vectors(tree: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Return float64[leaves, targets], in the order of ``fitted_trees``; a leaf's right child is its row."""
    left, right = (np.asarray(tree[f"{side}_children"], np.int64) for side in ("left", "right"))
    order, _ = preorder(left.tolist(), right.tolist(), (left == -1).tolist())
    width = int(tree["tree_param"]["size_leaf_vector"])
    table: npt.NDArray[np.float64] = np.asarray(tree["leaf_weights"], np.float64).reshape(-1, width)
    found: npt.NDArray[np.float64] = table[right[order][left[order] == -1]]
    return found
