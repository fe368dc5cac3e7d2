"""Check trees of scikit-learn and their ensembles: the indices that compiled loops follow unchecked."""

from typing import Any

import numpy as np

from ..errors import InvalidSource
from .native_refusals import require
from .objects import walk

# The members of each ensemble.
MEMBERS = {
    "RandomForestClassifier": ("DecisionTreeClassifier",),
    "RandomForestRegressor": ("DecisionTreeRegressor",),
    "ExtraTreesClassifier": ("ExtraTreeClassifier",),
    "ExtraTreesRegressor": ("ExtraTreeRegressor",),
    "GradientBoostingClassifier": ("DecisionTreeRegressor",),
    "GradientBoostingRegressor": ("DecisionTreeRegressor",),
    "IsolationForest": ("ExtraTreeRegressor",),
    "RandomTreesEmbedding": ("ExtraTreeRegressor",),
}


def check_tree(tree: Any) -> None:
    """Check that children come after their parents, as every builder writes them, so that no loop exists."""
    require(0 < tree.node_count <= tree.capacity, "a tree whose node count is larger than its nodes")
    nodes = tree.__getstate__()["nodes"]
    inner = nodes["left_child"] != -1
    position = np.arange(len(nodes))
    for side in ("left_child", "right_child"):
        child = nodes[side]
        fits = np.where(inner, (child > position) & (child < len(nodes)), child == -1)
        require(fits.all(), "a tree whose branches point outside it")
    feature = nodes["feature"][inner]
    require(((feature >= 0) & (feature < tree.n_features)).all(), "a tree that compares columns out of range")


def check_predictor(predictor: Any) -> None:
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    nodes = predictor.nodes
    require(isinstance(nodes, np.ndarray) and nodes.ndim == 1 and len(nodes), "a tree without nodes")
    require(nodes.dtype == PREDICTOR_RECORD_DTYPE, "a tree with unusual nodes")
    inner = nodes["is_leaf"] == 0
    position = np.arange(len(nodes))[inner]
    for side in ("left", "right"):
        child = nodes[side][inner].astype(np.int64)
        require(((child > position) & (child < len(nodes))).all(), "a tree whose branches point outside it")
    categorical = inner & (nodes["is_categorical"] != 0)
    bitsets = nodes["bitset_idx"][categorical]
    for name in ("raw_left_cat_bitsets", "binned_left_cat_bitsets"):
        table = getattr(predictor, name)
        fits = isinstance(table, np.ndarray) and table.dtype == np.uint32 and table.shape[1:] == (8,)
        require(fits and (bitsets < len(table)).all(), "a tree whose categories are out of range")


def check_columns(estimator: Any, used: Any) -> None:
    fits = all(len(one) and one.min() >= 0 and one.max() < estimator.n_features_in_ for one in used)
    require(fits, "a tree that compares columns out of range")


def check_members(estimator: Any) -> None:
    """Check the members' columns: an ensemble passes its rows to its trees without a check."""
    members = np.asarray(estimator.estimators_, dtype=object).ravel()
    kinds = MEMBERS[type(estimator).__name__]
    trees = all(
        type(member).__module__ == "sklearn.tree._classes" and type(member).__name__ in kinds
        for member in members
    )
    require(trees, "a member that is not a tree of its ensemble")
    widths = _widths_of_members(estimator, len(members))
    fits = [getattr(member, "n_features_in_", None) for member in members] == widths
    require(fits and len(members), "a tree with other columns than its ensemble")
    if type(estimator).__module__ == "sklearn.ensemble._gb":
        classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 1
        stages = (estimator.n_estimators_, estimator.n_trees_per_iteration_)
        fits = (
            isinstance(estimator.estimators_, np.ndarray)
            and estimator.estimators_.shape == stages
            and estimator.n_trees_per_iteration_ == (classes if classes > 2 else 1)
        )
        require(fits, "another number of trees than its stages need")


def _widths_of_members(estimator: Any, count: int) -> list[int]:
    """Return how many columns each tree reads: all, or the columns that an isolation forest chose for it."""
    width = estimator.n_features_in_
    if type(estimator).__name__ != "IsolationForest" or estimator._max_features == width:
        return [width] * count
    chosen = [np.asarray(one) for one in estimator.estimators_features_]
    fits = all(
        one.ndim == 1 and one.dtype.kind in "iu" and ((one >= 0) & (one < width)).all() for one in chosen
    )
    require(fits, "a tree with columns out of range")
    return [len(one) for one in chosen]


def check_first_guess(estimator: Any) -> None:
    """Check ``init_`` after everything else: it is called, and the trees add to its output in place."""
    stages = any(type(part).__module__ == "sklearn.ensemble._gb" for part in walk(estimator.init_))
    require(not stages, "an initial estimator that consists of stages itself")
    guess = estimator._raw_predict_init(np.zeros((2, estimator.n_features_in_), np.float32))
    fits = isinstance(guess, np.ndarray) and guess.shape == (2, estimator.n_trees_per_iteration_)
    require(fits, "an initial estimator with another width than its stages")


def check_bins(estimator: Any) -> None:
    """Check the categorical columns: the flags are read by column, and each category is a bit of 256."""
    _check_order(estimator)
    bins = estimator._bin_mapper
    width = estimator.n_features_in_
    categorical = bins.is_categorical_
    fits = (
        type(bins).__name__ == "_BinMapper"
        and isinstance(categorical, np.ndarray)
        and categorical.shape == (width,)
        and len(bins.bin_thresholds_) == width
    )
    require(fits, "bins for other columns than its estimator")
    for column in np.flatnonzero(categorical):
        known = np.asarray(bins.bin_thresholds_[column], float)
        require(known.ndim == 1 and ((known >= 0) & (known < 256)).all(), "categories out of range")


def _categories(part: Any) -> list[Any]:
    found = getattr(part, "categories_", None)
    return found if isinstance(found, list) else []


def _check_order(estimator: Any) -> None:
    """Check the encoder of categories: it encodes and reorders columns, and must keep their number."""
    before = getattr(estimator, "_preprocessor", None)
    if before is None:
        return
    kinds = [(name, type(one).__name__) for name, one, _ in before.transformers_ if one != "drop"]
    require(
        type(before).__name__ == "ColumnTransformer"
        and kinds == [("encoder", "OrdinalEncoder"), ("numerical", "FunctionTransformer")],
        "columns that are transformed before they reach a tree",
    )
    if any(np.asarray(one).dtype.kind == "O" for part in walk(before) for one in _categories(part)):
        raise InvalidSource(
            f"The {type(estimator).__name__} encodes categories of strings itself. Encode them with "
            "an OrdinalEncoder in a ColumnTransformer, list them in categorical_features, and fit "
            "again."
        )
    rows = before.transform(np.full((2, estimator.n_features_in_), np.nan))
    fits = isinstance(rows, np.ndarray) and rows.shape == (2, estimator.n_features_in_)
    require(fits and rows.dtype == np.float64, "columns that are transformed before they reach a tree")
