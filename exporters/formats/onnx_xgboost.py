"""XGBoost to ONNX from the model itself: what onnxmltools converts wrongly, or not at all.

Every kind of booster is a table here: trees with their weights, or the coefficients of ``gblinear``. A split
by categories compares a column of its own, which a table of its categories fills.
"""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from .onnx_converters import looked_up
from .onnx_nodes import Nodes
from .onnx_trees import OF_CATEGORIES

_LOGISTIC = ("binary:logistic", "reg:logistic")
_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie")
_IDENTITY = ("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:squaredlogerror", "rank:")
_MOST_CELLS = 1 << 22  # of a table of categories


def is_ours(model: Any) -> bool:
    """Whether a model is converted here: onnxmltools reads the other ones rightly."""
    learner = _learner(model)
    booster = learner["gradient_booster"]
    trees = booster.get("model", {}).get("trees", ())
    return (
        booster["name"] != "gbtree"
        or any(any(tree["split_type"]) for tree in trees)
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
    score = _score(node, rows, learner, container, scope)
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
    classes = np.asarray(model.classes_).astype(np.int64)
    label = node("Gather", classes, node("ArgMax", shares, axis=1, keepdims=0))
    shares = node("Cast", shares, to=node.dtype)
    for value, output in zip((label, shares), operator.outputs, strict=True):
        container.add_node("Identity", [value], [output.full_name])


def _learner(model: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(model.get_booster().save_raw("json")))["learner"]
    return found


def _score(node: Nodes, rows: str, learner: dict[str, Any], container: Any, scope: Any) -> str:
    booster, sizes = learner["gradient_booster"], learner["learner_model_param"]
    width = int(sizes["num_feature"])
    outputs = max(int(sizes["num_class"]), int(sizes["num_target"]), 1)
    if booster["name"] == "gblinear":
        table = np.asarray(booster["model"]["weights"], np.float32).reshape(width + 1, outputs)
        # A missing value counts for nothing; each output begins with the first one's base score.
        rows = node("Where", node("IsNaN", rows), node("Cast", np.zeros((1, 1)), to="float32"), rows)
        slopes, bias = (node("Cast", one, to="float32") for one in (table[:-1], table[-1:]))
        return node("Add", node("MatMul", rows, slopes), bias)
    weights = booster.get("weight_drop")
    held = booster.get("gbtree", booster)["model"]
    trees = held["trees"]
    if any(int(tree["tree_param"]["size_leaf_vector"]) > 1 for tree in trees):
        raise ConversionFailed("There is no converter for XGBoost's multi_output_tree.")
    best = learner["attributes"].get("best_iteration")
    count = held["iteration_indptr"][int(best) + 1] if best is not None else len(trees)
    columns = _Categories(width)
    attributes = _Attributes()
    for place, tree in enumerate(trees[:count]):
        attributes.add(tree, held["tree_info"][place], weights[place] if weights else 1.0, columns)
    score: str = scope.get_unique_variable_name("score")
    beside = columns.beside(node, rows)
    container.add_node(
        "TreeEnsembleRegressor",
        [beside],
        [score],
        name=scope.get_unique_operator_name(OF_CATEGORIES if beside != rows else "Trees"),
        op_domain="ai.onnx.ml",
        op_version=3,
        n_targets=outputs,
        aggregate_function="SUM",
        post_transform="NONE",
        **attributes.found,
    )
    return score


class _Categories:
    """Columns behind the model's own: 1 where a category is one of a set, NaN where it is missing."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._places: dict[tuple[int, tuple[int, ...]], int] = {}

    def place(self, column: int, codes: tuple[int, ...]) -> int:
        return self._places.setdefault((column, codes), self._width + len(self._places))

    def beside(self, node: Nodes, rows: str) -> str:
        """The rows with these columns, in the order of their places."""
        parts = [rows]
        for column in dict.fromkeys(column for column, _ in self._places):
            sets = [codes for other, codes in self._places if other == column]
            most = max(max(codes) for codes in sets)
            if (most + 3) * len(sets) > _MOST_CELLS:
                raise ConversionFailed("A column has more categories than a table here holds.")
            table = np.zeros((most + 3, len(sets)))
            for number, codes in enumerate(sets):
                table[list(codes), number] = 1.0
            table[most + 1] = np.nan
            keys = np.append(np.arange(most + 1, dtype=np.float64), np.nan)
            value = node("Floor", node("Gather", rows, np.array([column]), axis=1))
            value = node("Cast", value, to=node.dtype)
            parts.append(node("Cast", looked_up(node, value, keys, table), to="float32"))
        order = self._order()
        joined = node("Concat", *parts, axis=1) if len(parts) > 1 else rows
        return node("Gather", joined, order, axis=1) if len(parts) > 1 else joined

    def _order(self) -> npt.NDArray[np.int64]:
        by_column = [
            place
            for column in dict.fromkeys(column for column, _ in self._places)
            for (other, _), place in self._places.items()
            if other == column
        ]
        behind = np.argsort(by_column) + self._width
        return np.concatenate([np.arange(self._width), behind]).astype(np.int64)


class _Attributes:
    """The attributes of a TreeEnsembleRegressor, tree after tree."""

    def __init__(self) -> None:
        names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        self.found: dict[str, list[Any]] = {f"nodes_{name}": [] for name in names}
        self.found["nodes_missing_value_tracks_true"] = []
        self.found |= {f"target_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
        self._count = 0

    def add(self, tree: dict[str, Any], target: int, weight: float, columns: _Categories) -> None:
        left, right = tree["left_children"], tree["right_children"]
        conditions = np.asarray(tree["split_conditions"], np.float32)
        sets = {
            node: tuple(tree["categories"][start : start + size])
            for node, start, size in zip(
                tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True
            )
        }
        add = {name: column.append for name, column in self.found.items()}
        for node in range(len(left)):
            leaf = left[node] == -1
            feature, value = tree["split_indices"][node], float(conditions[node])
            if node in sets:
                feature, value = columns.place(feature, sets[node]), 0.5
            add["nodes_treeids"](self._count)
            add["nodes_nodeids"](node)
            add["nodes_featureids"](0 if leaf else feature)
            add["nodes_modes"]("LEAF" if leaf else "BRANCH_LT")
            add["nodes_values"](0.0 if leaf else value)
            add["nodes_truenodeids"](0 if leaf else left[node])
            add["nodes_falsenodeids"](0 if leaf else right[node])
            add["nodes_missing_value_tracks_true"](0 if leaf else int(tree["default_left"][node]))
            if leaf:
                add["target_treeids"](self._count)
                add["target_nodeids"](node)
                add["target_ids"](target)
                add["target_weights"](float(np.float32(conditions[node] * np.float32(weight))))
        self._count += 1
