"""Check a model before XGBoost's native code reads it.

XGBoost compares the lengths of a tree's tables when it loads them, but follows the numbers in them unchecked:
a child or a category outside its table, or a cycle, crashes the process.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import ubjson

_ROOT = (-1, 2**31 - 1)  # as a parent; with several targets, and with one
_MOST_CATEGORIES = 1 << 24  # float32 is exact for whole numbers up to this one
_MOST_OUTPUTS = 1 << 20


def check(raw: bytes) -> None:
    """Check a model in JSON or UBJSON, or a booster's pickled state: a model with its settings.

    Raises:
        ValueError: its numbers would make XGBoost read outside its tables.
    """
    document = _document(raw)
    learner = document.get("Model", document)["learner"]
    parameters = learner["learner_model_param"]
    columns = _integer(parameters["num_feature"])
    outputs = max(1, _integer(parameters["num_class"]), _integer(parameters.get("num_target", 1)))
    _require(outputs <= _MOST_OUTPUTS, "too many outputs")
    booster = learner["gradient_booster"]
    booster = booster.get("gbtree", booster)  # dart stores its trees one level deeper
    model = booster["model"]
    if "trees" not in model:
        _require(len(model["weights"]) == (columns + 1) * outputs, "weights")
        return
    trees = model["trees"]
    groups = _numbers(model["tree_info"])
    _require(len(groups) == len(trees), "tree_info")
    _require(bool(((groups >= 0) & (groups < outputs)).all()), "tree_info")
    _check_offsets(_numbers(model.get("iteration_indptr", [0, len(trees)])), len(trees), "iteration_indptr")
    _check_encoder(model.get("cats") or {})
    for tree in trees:
        _check_tree(tree, columns, outputs)


def _document(raw: bytes) -> Any:
    if raw[:1] != b"{":
        raise ValueError("neither JSON nor UBJSON")
    # JSON's first key begins with a quotation mark, UBJSON's with the type of its length.
    return json.loads(raw) if raw[1:].lstrip()[:1] in (b'"', b"}") else ubjson.loads(raw)


def _check_tree(tree: Mapping[str, Any], columns: int, outputs: int) -> None:
    left, right, parents, features = (
        _numbers(tree[name]) for name in ("left_children", "right_children", "parents", "split_indices")
    )
    size = len(left)
    _require(size > 0 and len(right) == len(parents) == len(features) == size, "the length of a table")
    width = _integer(tree["tree_param"]["size_leaf_vector"])
    _require(width in (0, 1, outputs), "size_leaf_vector")
    inner = left != -1
    below = np.concatenate([left[inner], right[inner]])
    _require(bool(((below > 0) & (below < size)).all()), "a child outside the tree")
    _require(len(np.unique(below)) == len(below), "a node with two parents")
    _require(bool((parents[below] == np.tile(np.flatnonzero(inner), 2)).all()), "a parent")
    rest = np.setdiff1d(np.arange(size), below)  # the root, and nodes that pruning left behind
    _require(int(parents[0]) in _ROOT and 0 in rest, "the root")
    _require(bool(((parents >= -1) & ((parents < size) | (parents == _ROOT[1]))).all()), "a parent")
    _require(bool(((features[inner] >= 0) & (features[inner] < columns)).all()), "a feature")
    if "leaf_weights" in tree:
        leaves = right[~inner]
        _require(bool(((leaves >= 0) & ((leaves + 1) * width <= len(tree["leaf_weights"]))).all()), "a leaf")
    _check_reachable(left, right, inner)
    _check_categories(tree, inner)


def _check_reachable(
    left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], inner: npt.NDArray[np.bool_]
) -> None:
    """Check that each node has one parent: a split that the root does not reach may be part of a cycle."""
    reached = np.zeros(len(left), bool)
    level = np.array([0])
    while len(level):
        reached[level] = True
        level = level[inner[level]]
        level = np.concatenate([left[level], right[level]])
    _require(not (inner & ~reached).any(), "nodes that the root does not reach")


def _check_categories(tree: Mapping[str, Any], inner: npt.NDArray[np.bool_]) -> None:
    kinds = _numbers(tree.get("split_type", []))
    _require(len(kinds) in (0, len(inner)) and bool(np.isin(kinds, (0, 1)).all()), "split_type")
    nodes, starts, sizes, values = (
        _numbers(tree.get(f"categories{name}", [])) for name in ("_nodes", "_segments", "_sizes", "")
    )
    _require(len(nodes) == len(starts) == len(sizes), "the length of a table of categories")
    wanted = np.flatnonzero((kinds == 1) & inner[: len(kinds)]) if len(kinds) else kinds
    _require(np.array_equal(nodes, wanted), "the nodes with categories")
    _require(
        bool((sizes > 0).all() and (starts >= 0).all() and (starts + sizes <= len(values)).all()),
        "categories",
    )
    _require(bool(((values >= 0) & (values < _MOST_CATEGORIES)).all()), "a category")


def _check_encoder(cats: Mapping[str, Any]) -> None:
    """Check the names of categories, for example of a data frame."""
    entries = cats.get("enc", [])
    total = 0
    for entry in entries:
        values = entry["values"]
        count = len(values)
        if "offsets" in entry:
            offsets = _numbers(entry["offsets"])
            _check_offsets(offsets, len(values), "offsets of categories")
            count = len(offsets) - 1
        total += max(0, count)
    segments = _numbers(cats.get("feature_segments", []))
    if entries or len(segments):
        _check_offsets(segments, total, "feature_segments")
        _require(len(segments) == len(entries) + 1, "feature_segments")
    order = _numbers(cats.get("sorted_idx", []))
    _require(len(order) in (0, total) and bool(((order >= 0) & (order < max(1, total))).all()), "sorted_idx")


def _check_offsets(offsets: npt.NDArray[np.int64], end: int, what: str) -> None:
    rises = bool((np.diff(offsets) >= 0).all())
    _require(len(offsets) > 0 and rises and int(offsets[0]) == 0 and int(offsets[-1]) == end, what)


def _numbers(values: Any) -> npt.NDArray[np.int64]:
    found = np.asarray(values)
    _require(found.ndim == 1 and (found.dtype.kind in "iub" or not len(found)), "whole numbers")
    return found.astype(np.int64)


def _integer(text: Any) -> int:
    number = int(text)
    _require(0 <= number < 2**31, "a number")
    return number


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"not as XGBoost writes it: {what}")
