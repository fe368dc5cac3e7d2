"""IsolationForest as one ensemble of trees.

skl2onnx writes thirty operators per tree, which take minutes to convert and to load.

Liu, Ting and Zhou, "Isolation forest" (2008): the score is computed from the mean length of a row's paths.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from ..sources.trees import LEAF
from .onnx_nodes import Nodes


def convert(scope: Any, operator: Any, container: Any) -> None:
    """Write the nodes of one forest: label and decision function."""
    node = Nodes(scope, operator, container)
    forest, rows = operator.raw_operator, node.joined(operator)
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)  # trees that read the same columns; (): all
    every = forest._max_features == forest.n_features_in_
    for place, chosen in enumerate(forest.estimators_features_):
        groups[() if every else tuple(int(one) for one in chosen)].append(place)
    lengths = []
    for columns, places in groups.items():
        given = node("Gather", rows, np.array(columns, np.int64), axis=1) if columns else rows
        lengths.append(node("Cast", _lengths(node, given, forest, places), to=node.dtype))
    total = lengths[0] if len(lengths) == 1 else node("Sum", *lengths)
    usual = len(forest.estimators_) * _mean_length(np.array([forest._max_samples]))[0]
    share = node("Div", total, np.array(-usual)) if usual else node("Sub", node("Mul", total, _ZERO), _ONE)
    score = node("Sub", node("Neg", node("Pow", np.array(2.0), share)), np.array(float(forest.offset_)))
    label = node("Where", node("Less", score, _ZERO), np.array(-1), np.array(1))
    for value, output in zip((label, score), operator.outputs, strict=True):
        container.add_node("Identity", [value], [output.full_name])


_ZERO, _ONE = np.array([0.0]), np.array([1.0])


def _lengths(node: Nodes, rows: str, forest: Any, places: list[int]) -> str:
    """Return the summed length of a row's paths through the trees. ``onnx_trees`` sets the thresholds."""
    found: dict[str, Any] = defaultdict(list)
    for number, place in enumerate(places):
        tree = forest.estimators_[place].tree_
        nodes = tree.__getstate__()["nodes"]
        leaf = nodes["left_child"] == LEAF
        count = len(nodes)
        lengths = tree.compute_node_depths() + _mean_length(tree.n_node_samples) - 1.0
        found["nodes_treeids"] += [number] * count
        found["nodes_nodeids"] += range(count)
        found["nodes_featureids"] += np.where(leaf, 0, nodes["feature"]).tolist()
        found["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        found["nodes_values"] += np.where(leaf, 0.0, nodes["threshold"]).tolist()
        found["nodes_truenodeids"] += np.where(leaf, 0, nodes["left_child"]).tolist()
        found["nodes_falsenodeids"] += np.where(leaf, 0, nodes["right_child"]).tolist()
        found["target_treeids"] += [number] * int(leaf.sum())
        found["target_nodeids"] += np.flatnonzero(leaf).tolist()
        found["target_weights"] += lengths[leaf].tolist()
    return node(
        "TreeEnsembleRegressor",
        rows,
        op_domain="ai.onnx.ml",
        op_version=3,
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        target_ids=[0] * len(found["target_nodeids"]),
        **found,
    )


def _mean_length(samples: Any) -> Any:
    """Return the mean length of an unsuccessful search in a binary tree (equation 1 of the paper)."""
    count = np.maximum(samples, 3).astype(np.float64)
    many = 2.0 * (np.log(count - 1.0) + np.euler_gamma) - 2.0 * (count - 1.0) / count
    return np.where(samples <= 1, 0.0, np.where(samples == 2, 1.0, many))
