"""Convert the fitted trees of scikit-learn, XGBoost and LightGBM to one kind of table.

Each library compares a row with a node in its own way, and converters lose the difference: scikit-learn casts
the row to float32 and compares with a float64 threshold, XGBoost compares float32 with ``<``, histogram
gradient boosting and LightGBM compare float64 (onnxruntime#11284). Each has its own rule for a missing value.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from .fitted import parts

LEAF = -1
# LightGBM, include/LightGBM/meta.h (kZeroThreshold): a number this close to zero counts as zero.
LIGHTGBM_ZERO = float(np.float32(1e-35))


@dataclass(frozen=True)
class Line:
    """A linear function that a leaf returns if none of its ``columns`` is missing."""

    constant: float
    columns: npt.NDArray[np.int64]
    slopes: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tree:
    """One tree, its nodes in preorder: a parent before its left side, that before its right side.

    ``feature`` int64[N] is the column that a node compares, LEAF in a leaf. A row goes left if its value is
    at most ``threshold`` float64[N], or, if ``strict``, below it. ``missing_left`` bool[N] marks the nodes
    where NaN goes left. ``zero_missing`` bool[N] marks the nodes that treat zero as missing. ``right``
    int64[N] is the index of the right child; the left one is the next node. A row has ``width`` columns, cast
    to ``compares`` first.

    ``categories`` maps each node that compares categories to the categories that it lists. A listed category
    goes left if ``listed_left``, otherwise right; every other number goes to the other side. ``leaf``
    float64[N] is the output of a leaf, for boosters only; ``linear`` has the leaves of LightGBM that add a
    linear function to it.
    """

    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    right: npt.NDArray[np.int64]
    missing_left: npt.NDArray[np.bool_]
    zero_missing: npt.NDArray[np.bool_]
    width: int
    strict: bool
    compares: str
    leaf: npt.NDArray[np.float64] | None = None
    categories: Mapping[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    listed_left: bool = True
    linear: Mapping[int, Line] = field(default_factory=dict)

    @property
    def structure(self) -> bytes:
        """Return a key that is equal for two trees that compare the same columns at the same nodes."""
        return self.feature.tobytes()


def preorder(
    left: Sequence[int], right: Sequence[int], is_leaf: Sequence[bool], root: int = 0
) -> tuple[list[int], list[int]]:
    """Return the nodes in preorder, and for each the index of its right child in that order (0 for a leaf).

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


_KNOWN: WeakKeyDictionary[Any, tuple[Tree, ...]] = WeakKeyDictionary()


def fitted_trees(estimator: Any) -> tuple[Tree, ...]:
    """Return every fitted tree inside the estimator. The result is cached per estimator."""
    if isinstance(estimator, str) or estimator is None:  # a step of a pipeline that does nothing
        return ()
    if estimator not in _KNOWN:
        _KNOWN[estimator] = tuple(tree for part in parts(estimator) for tree in _of_part(part))
    return _KNOWN[estimator]


def _of_part(part: Any) -> Iterator[Tree]:
    kind, module = type(part).__name__, type(part).__module__
    if module == "sklearn.tree._tree":
        yield _scikit_learn(part)
    elif kind.startswith("HistGradientBoosting") and hasattr(part, "_predictors"):
        yield from (histogram(tree, int(part.n_features_in_)) for stage in part._predictors for tree in stage)
    elif module.startswith("xgboost") and hasattr(part, "get_booster"):
        yield from xgboost(part.get_booster())
    elif module.startswith("lightgbm") and hasattr(part, "booster_"):
        yield from lightgbm(part.booster_)


def follow_other_steps(estimator: Any) -> bool:
    """Return whether a pipeline inside the estimator computes the columns that its trees compare."""
    pipelines = [part for part in parts(estimator) if len(getattr(part, "steps", None) or ()) > 1]
    return any(fitted_trees(pipeline.steps[-1][1]) for pipeline in pipelines)


def _tree(
    nodes: dict[str, Any],
    width: int,
    *,
    strict: bool = False,
    compares: str = "float32",
    categories: Mapping[int, Any] = {},
    listed_left: bool = True,
    linear: Mapping[int, Line] = {},
) -> Tree:
    """Build a tree from arrays by node: left, right, leaf, feature, threshold, missing_left.

    Optional arrays: zero_missing, and value, the output of a leaf.
    """
    order, right = preorder(nodes["left"].tolist(), nodes["right"].tolist(), nodes["leaf"].tolist())
    leaf = nodes["leaf"][order]
    place_of = {node: place for place, node in enumerate(order)}
    inner = ~leaf
    inner[[place_of[node] for node in categories]] = False
    zero_missing = nodes.get("zero_missing", np.zeros(len(leaf), bool))
    return Tree(
        np.where(leaf, LEAF, nodes["feature"][order]).astype(np.int64),
        np.where(inner, nodes["threshold"][order], 0.0).astype(np.float64),
        np.array(right, np.int64),
        (nodes["missing_left"][order] & ~leaf).astype(bool),
        (zero_missing[order] & inner).astype(bool),
        width,
        strict,
        compares,
        leaf=np.where(leaf, nodes["value"][order], 0.0).astype(np.float64) if "value" in nodes else None,
        categories={place_of[node]: np.asarray(codes, np.int64) for node, codes in categories.items()},
        listed_left=listed_left,
        linear={place_of[node]: line for node, line in linear.items()},
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
        },
        int(tree.n_features),
    )


def histogram(predictor: Any, width: int) -> Tree:
    """Convert a tree of histogram gradient boosting.

    With categories it reads the rows after the estimator's ``_preprocessor``: encoded, in another column
    order, an unknown category as a missing value.
    """
    nodes = predictor.nodes
    bits = np.unpackbits(predictor.raw_left_cat_bitsets.view(np.uint8), axis=-1, bitorder="little")
    listing: list[int] = np.flatnonzero((nodes["is_categorical"] != 0) & (nodes["is_leaf"] == 0)).tolist()
    return _tree(
        {
            "left": nodes["left"].astype(np.int64),
            "right": nodes["right"].astype(np.int64),
            "leaf": nodes["is_leaf"] != 0,
            "feature": nodes["feature_idx"],
            "threshold": nodes["num_threshold"],
            "missing_left": nodes["missing_go_to_left"] != 0,
            "value": nodes["value"],
        },
        width,
        compares="float64",
        categories={node: np.flatnonzero(bits[nodes["bitset_idx"][node]]) for node in listing},
    )


def xgboost(booster: Any) -> Iterator[Tree]:
    """Yield the trees of XGBoost. A listed category goes right; ``leaf`` includes the weights of dart."""
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    weights = model.get("weight_drop")
    model = model.get("gbtree", model)  # dart stores its trees one level deeper
    for place, tree in enumerate(model.get("model", {}).get("trees", ())):
        left = np.array(tree["left_children"], np.int64)
        conditions = np.array(tree["split_conditions"], np.float32)
        weight = np.float32(weights[place] if weights else 1.0)
        listed = zip(
            tree.get("categories_nodes", ()),
            tree.get("categories_segments", ()),
            tree.get("categories_sizes", ()),
            strict=True,
        )
        yield _tree(
            {
                "left": left,
                "right": np.array(tree["right_children"], np.int64),
                "leaf": left == -1,
                "feature": np.array(tree["split_indices"], np.int64),
                "threshold": conditions.astype(float),
                "missing_left": np.array(tree["default_left"], bool),
                "value": (conditions * weight).astype(float),
            },
            int(booster.num_features()),
            strict=True,
            categories={node: tree["categories"][start : start + size] for node, start, size in listed},
            listed_left=False,
        )


def lightgbm(booster: Any) -> Iterator[Tree]:
    """Yield the trees of LightGBM; a missing category and an unlisted one go right."""
    for tree in booster.dump_model()["tree_info"]:
        nodes, left, right = _in_arrays(tree["tree_structure"])
        listing = {
            place: [int(code) for code in node["threshold"].split("||")]
            for place, node in enumerate(nodes)
            if node.get("decision_type") == "=="
        }
        threshold = np.array(
            [
                0.0 if place in listing else float(node.get("threshold", 0.0))
                for place, node in enumerate(nodes)
            ]
        )
        # Booster.predict treats a number this close to zero as zero, in every column.
        close = np.abs(threshold) <= LIGHTGBM_ZERO
        beside = np.where(threshold < 0, np.nextafter(-LIGHTGBM_ZERO, -np.inf), LIGHTGBM_ZERO)
        kind = np.array([node.get("missing_type", "None") for node in nodes])
        default = np.array([bool(node.get("default_left")) for node in nodes])
        missing_left = np.where(kind == "None", threshold >= 0.0, default)
        missing_left[list(listing)] = False
        yield _tree(
            {
                "left": np.array(left),
                "right": np.array(right),
                "leaf": np.array(["split_feature" not in node for node in nodes]),
                "feature": np.array([node.get("split_feature", LEAF) for node in nodes]),
                "threshold": np.where(close, beside, threshold),
                # Without a rule of its own, NaN counts as zero: LightGBM, Tree::NumericalDecision.
                "missing_left": missing_left,
                "zero_missing": kind == "Zero",
                "value": np.array([node.get("leaf_value", 0.0) for node in nodes]),
            },
            int(booster.num_feature()),
            compares="float64",
            categories=listing,
            linear={
                place: Line(
                    node["leaf_const"],
                    np.array(node["leaf_features"], np.int64),
                    np.array(node["leaf_coeff"], np.float64),
                )
                for place, node in enumerate(nodes)
                if "leaf_const" in node
            },
        )


def _in_arrays(root: dict[str, Any]) -> tuple[list[dict[str, Any]], list[int], list[int]]:
    """Return the nodes of a tree of nested objects, and the indices of each node's children, -1 in a leaf."""
    nodes: list[dict[str, Any]] = []
    left: list[int] = []
    right: list[int] = []
    todo: list[tuple[dict[str, Any], list[int] | None, int]] = [(root, None, 0)]
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
    return nodes, left, right
