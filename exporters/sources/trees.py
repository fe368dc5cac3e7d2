"""The fitted trees of scikit-learn, XGBoost and LightGBM as one kind of table.

Each library compares a row with a node in its own way, and converters lose the difference: scikit-learn casts
the row to float32 and compares with a float64 threshold, XGBoost compares float32 with ``<``, histogram
gradient boosting and LightGBM compare float64 (onnxruntime#11284). Each has its own rule for a missing value.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .fitted import parts

LEAF = -1
# LightGBM, include/LightGBM/meta.h (kZeroThreshold): a number this close to zero counts as zero.
LIGHTGBM_ZERO = float(np.float32(1e-35))


@dataclass(frozen=True)
class Tree:
    """One tree, its nodes in preorder: a parent before its left side, that before its right side.

    ``feature`` int64[N] is the column that a node compares, LEAF in a leaf. A row goes left where its value
    is at most ``threshold`` float64[N], below it if ``strict``. ``missing_left`` bool[N] says where NaN goes.
    ``zero_missing`` bool[N] marks the nodes that treat zero as missing. ``right`` int64[N] is the place of
    the right child; the left one is the next node. A row has ``width`` columns, cast to ``compares`` first.
    """

    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    right: npt.NDArray[np.int64]
    missing_left: npt.NDArray[np.bool_]
    zero_missing: npt.NDArray[np.bool_]
    width: int
    strict: bool
    compares: str

    @property
    def structure(self) -> bytes:
        """Equal for two trees that compare the same columns in the same places."""
        return self.feature.tobytes()


def preorder(
    left: Sequence[int], right: Sequence[int], is_leaf: Sequence[bool], root: int = 0
) -> tuple[list[int], list[int]]:
    """Return the nodes in preorder, and for each the place of its right child in that order (0 for a leaf).

    Raises:
        ValueError: a node is reached twice.
    """
    order: list[int] = []
    right_place: list[int] = []
    todo = [(root, -1)]
    seen: set[int] = set()
    while todo:
        node, parent = todo.pop()
        if node in seen:
            raise ValueError("a node has two parents")
        seen.add(node)
        if parent >= 0:
            right_place[parent] = len(order)
        place = len(order)
        order.append(node)
        right_place.append(0)
        if not is_leaf[node]:
            todo.append((right[node], place))
            todo.append((left[node], -1))
    return order, right_place


def fitted_trees(estimator: Any) -> Iterator[Tree]:
    """Every fitted tree with numeric splits inside the estimator, whatever holds it."""
    for part in parts(estimator):
        kind, module = type(part).__name__, type(part).__module__
        if module == "sklearn.tree._tree":
            yield _scikit_learn(part)
        elif kind == "TreePredictor":
            if not part.nodes["is_categorical"].any():
                yield _histogram(part)
        elif module.startswith("xgboost") and hasattr(part, "get_booster"):
            yield from _xgboost(part.get_booster())
        elif module.startswith("lightgbm") and hasattr(part, "booster_"):
            yield from _lightgbm(part.booster_)


def follow_other_steps(estimator: Any) -> bool:
    """Whether a pipeline inside the estimator computes the columns that its trees compare."""
    pipelines = [part for part in parts(estimator) if len(getattr(part, "steps", None) or ()) > 1]
    return any(next(fitted_trees(pipeline.steps[-1][1]), None) is not None for pipeline in pipelines)


def _tree(nodes: dict[str, Any], width: int, *, strict: bool = False, compares: str = "float32") -> Tree:
    """From arrays by node: left, right, leaf, feature, threshold, missing_left, zero_missing."""
    order, right = preorder(nodes["left"].tolist(), nodes["right"].tolist(), nodes["leaf"].tolist())
    leaf = nodes["leaf"][order]
    return Tree(
        np.where(leaf, LEAF, nodes["feature"][order]).astype(np.int64),
        np.where(leaf, 0.0, nodes["threshold"][order]).astype(np.float64),
        np.array(right, np.int64),
        (nodes["missing_left"][order] & ~leaf).astype(bool),
        (nodes["zero_missing"][order] & ~leaf).astype(bool),
        width,
        strict,
        compares,
    )


def _scikit_learn(tree: Any) -> Tree:
    nodes = tree.__getstate__()["nodes"]
    return _tree(
        {
            "left": nodes["left_child"],
            "right": nodes["right_child"],
            "leaf": nodes["left_child"] == -1,
            "feature": nodes["feature"],
            "threshold": nodes["threshold"],
            "missing_left": nodes["missing_go_to_left"] != 0,
            "zero_missing": np.zeros(len(nodes), bool),
        },
        int(tree.n_features),
    )


def _histogram(predictor: Any) -> Tree:
    nodes = predictor.nodes
    return _tree(
        {
            "left": nodes["left"].astype(np.int64),
            "right": nodes["right"].astype(np.int64),
            "leaf": nodes["is_leaf"] != 0,
            "feature": nodes["feature_idx"],
            "threshold": nodes["num_threshold"],
            "missing_left": nodes["missing_go_to_left"] != 0,
            "zero_missing": np.zeros(len(nodes), bool),
        },
        int(nodes["feature_idx"].max()) + 1,
        compares="float64",
    )


def _xgboost(booster: Any) -> Iterator[Tree]:
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    model = model.get("gbtree", model)  # dart holds its trees one level deeper
    for tree in model.get("model", {}).get("trees", ()):
        if any(tree.get("split_type", ())):
            continue  # categories
        left = np.array(tree["left_children"], np.int64)
        yield _tree(
            {
                "left": left,
                "right": np.array(tree["right_children"], np.int64),
                "leaf": left == -1,
                "feature": np.array(tree["split_indices"], np.int64),
                "threshold": np.array(tree["split_conditions"], np.float32).astype(float),
                "missing_left": np.array(tree["default_left"], bool),
                "zero_missing": np.zeros(len(left), bool),
            },
            int(booster.num_features()),
            strict=True,
        )


def _lightgbm(booster: Any) -> Iterator[Tree]:
    for tree in booster.dump_model()["tree_info"]:
        nodes: list[dict[str, Any]] = []
        left: list[int] = []
        right: list[int] = []
        todo: list[tuple[dict[str, Any], list[int] | None, int]] = [(tree["tree_structure"], None, 0)]
        while todo:
            node, side, parent = todo.pop()
            place = len(nodes)
            if side is not None:
                side[parent] = place
            nodes.append(node)
            left.append(-1)
            right.append(-1)
            if "split_feature" in node:
                todo.append((node["right_child"], right, place))
                todo.append((node["left_child"], left, place))
        if any(node.get("decision_type") == "==" for node in nodes):
            continue  # categories
        threshold = np.array([float(node.get("threshold", 0.0)) for node in nodes])
        # Booster.predict reads a number this close to zero as zero, whatever the column.
        close = np.abs(threshold) <= LIGHTGBM_ZERO
        beside = np.where(threshold < 0, np.nextafter(-LIGHTGBM_ZERO, -np.inf), LIGHTGBM_ZERO)
        kind = np.array([node.get("missing_type", "None") for node in nodes])
        default = np.array([bool(node.get("default_left")) for node in nodes])
        yield _tree(
            {
                "left": np.array(left),
                "right": np.array(right),
                "leaf": np.array(["split_feature" not in node for node in nodes]),
                "feature": np.array([node.get("split_feature", LEAF) for node in nodes]),
                "threshold": np.where(close, beside, threshold),
                # Without a rule of its own NaN is zero: LightGBM, Tree::NumericalDecision.
                "missing_left": np.where(kind == "None", threshold >= 0.0, default),
                "zero_missing": kind == "Zero",
            },
            int(booster.num_feature()),
            compares="float64",
        )
