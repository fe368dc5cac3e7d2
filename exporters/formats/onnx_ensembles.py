"""Write trees from the source's own tables into an ONNX graph.

ONNX compares a number with a threshold. A split by categories compares an extra column after the model's own,
which a table of categories fills. ``onnx_trees`` checks the nodes against the source's again, and sets
thresholds.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ConversionFailed
from ..sources.trees import LEAF, Tree
from .onnx_categories import OF_CATEGORIES, CategoryColumns
from .onnx_nodes import Nodes

_MOST_CELLS = 1 << 22  # of the table of linear leaves


def summed(
    node: Nodes, rows: str, trees: Sequence[Tree], targets: Sequence[int], count: int, *, dtype: str
) -> str:
    """Return the scores [N, count]: per target, the sum of its trees' outputs. ``dtype``: the rows'."""
    if any(tree.linear for tree in trees):
        return _with_lines(node, rows, trees, targets, count)
    leaves = [tree.leaf[tree.feature == LEAF] for tree in trees if tree.leaf is not None]
    ids = [np.full(len(one), target) for one, target in zip(leaves, targets, strict=True)]
    return _ensemble(node, rows, trees, ids, leaves, count, dtype)


def selected(
    node: Nodes,
    rows: str,
    trees: Sequence[Tree],
    answers: Sequence[npt.NDArray[np.float64]],
    *,
    dtype: str,
) -> str:
    """Return the scores [N, targets]: the sum of the leaves' rows in each tree's ``answers`` [leaves,
    targets].

    Raises:
        ConversionFailed: more answers than a table holds.
    """
    table = np.concatenate(answers)
    if table.size > _MOST_CELLS:
        raise ConversionFailed(
            f"Its {table.size:,} outputs are more than a table of {_MOST_CELLS:,} can hold."
        )
    starts = np.cumsum([0, *map(len, answers)])
    ids = [np.arange(start, start + len(one)) for start, one in zip(starts, answers, strict=False)]
    met = _ensemble(node, rows, trees, ids, [np.ones(len(one)) for one in answers], len(table), dtype)
    return node("MatMul", met, node("Cast", table, to=dtype))


def _with_lines(node: Nodes, rows: str, trees: Sequence[Tree], targets: Sequence[int], count: int) -> str:
    """Write LightGBM's ``linear_tree``: the trees find the leaf, and each leaf has a linear function.

    If a number that the function reads is missing, the leaf's constant output is used.
    """
    places = [np.flatnonzero(tree.feature == LEAF) for tree in trees]
    total, width = sum(map(len, places)), trees[0].width
    if total * width > _MOST_CELLS:
        raise ConversionFailed(
            f"Its {total:,} linear leaves of {width:,} columns are more than a table can hold."
        )
    slopes, reads = np.zeros((width, total)), np.zeros((width, total))
    constants, plain, to = np.zeros((1, total)), np.zeros((1, total)), np.zeros((total, count))
    leaf = 0
    for tree, target, own in zip(trees, targets, places, strict=True):
        for place in own.tolist():
            assert tree.leaf is not None
            plain[0, leaf] = constants[0, leaf] = tree.leaf[place]
            to[leaf, target] = 1.0
            if place in tree.linear:
                own_line = tree.linear[place]
                constants[0, leaf] = own_line.constant
                slopes[own_line.columns, leaf] = own_line.slopes
                reads[own_line.columns, leaf] = 1.0
            leaf += 1
    starts = np.cumsum([0, *map(len, places)])
    ids = [np.arange(start, start + len(own)) for start, own in zip(starts, places, strict=False)]
    ones = [np.ones(len(own)) for own in places]
    found = node("Cast", _ensemble(node, rows, trees, ids, ones, total, node.dtype), to="bool")
    missing = node("IsNaN", rows)
    line = node("MatMul", node("Where", missing, np.zeros(1), rows), slopes)
    gap = node("Cast", node("MatMul", node("Cast", missing, to=node.dtype), reads), to="bool")
    answer = node("Where", gap, plain, node("Add", line, constants))
    return node("MatMul", node("Where", found, answer, np.zeros(1)), to)


def _ensemble(
    node: Nodes,
    rows: str,
    trees: Sequence[Tree],
    targets: Sequence[npt.NDArray[np.int64]],
    weights: Sequence[npt.NDArray[np.float64]],
    count: int,
    dtype: str,
) -> str:
    """Write one operator. ``targets`` and ``weights`` are those of the leaves of each tree."""
    columns = CategoryColumns(trees)
    feature = np.concatenate([columns.features(tree) for tree in trees])
    leaf = np.concatenate([tree.feature == LEAF for tree in trees])
    numbers = [np.arange(len(tree.feature)) for tree in trees]
    ids = np.repeat(np.arange(len(trees)), [len(one) for one in numbers])
    own = np.concatenate(numbers)
    threshold = np.concatenate([_thresholds(tree) for tree in trees])
    with np.errstate(over="ignore"):
        threshold = threshold.astype(np.float32)
    inner = "BRANCH_LT" if trees[0].strict else "BRANCH_LEQ"
    attributes = {
        "nodes_treeids": ids,
        "nodes_nodeids": own,
        "nodes_featureids": np.where(leaf, 0, feature),
        "nodes_modes": np.where(leaf, "LEAF", inner),
        "nodes_values": threshold.astype(float),
        "nodes_truenodeids": np.where(leaf, 0, own + 1),
        "nodes_falsenodeids": np.concatenate([tree.right for tree in trees]),
        "nodes_missing_value_tracks_true": np.concatenate([tree.missing_left for tree in trees]).astype(int),
        "target_treeids": ids[leaf],
        "target_nodeids": own[leaf],
        "target_ids": np.concatenate(targets),
        "target_weights": np.concatenate(weights).astype(np.float32).astype(float),
    }
    beside = columns.beside(node, rows, dtype)
    return node(
        "TreeEnsembleRegressor",
        beside,
        name=node.named(f"{OF_CATEGORIES}{trees[0].width}_columns" if beside != rows else "Trees"),
        op_domain="ai.onnx.ml",
        op_version=3,
        n_targets=count,
        aggregate_function="SUM",
        post_transform="NONE",
        **{name: values.tolist() for name, values in attributes.items()},
    )


def _thresholds(tree: Tree) -> npt.NDArray[np.float64]:
    found = tree.threshold.copy()
    found[list(tree.categories)] = 0.5
    return found
