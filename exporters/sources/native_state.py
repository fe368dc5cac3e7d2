"""What native code would believe without looking: the numbers inside a fitted estimator that are addresses.

Neither a pickle nor a ``.skops`` file is to blame for these: plain arrays say which node is whose child and
which column is compared, and scikit-learn's compiled loops follow them past the end of the array
(scikit-learn #34558). Called once after loading, whichever way the estimator came in.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from ..errors import InvalidSource, UnsafeCheckpoint
from ..processing.vectorizer import is_quick
from .estimator_globals import FUNCTIONS
from .pickle_values import is_check_of_numbers

_PLAIN = (type, str, bytes, int, float)
_PLAIN_TYPES = frozenset(_PLAIN)
# What each ensemble is made of.
_MEMBERS = {
    "RandomForestClassifier": ("DecisionTreeClassifier",),
    "RandomForestRegressor": ("DecisionTreeRegressor",),
    "ExtraTreesClassifier": ("ExtraTreeClassifier",),
    "ExtraTreesRegressor": ("ExtraTreeRegressor",),
    "GradientBoostingClassifier": ("DecisionTreeRegressor",),
    "GradientBoostingRegressor": ("DecisionTreeRegressor",),
    "IsolationForest": ("ExtraTreeRegressor",),
    "RandomTreesEmbedding": ("ExtraTreeRegressor",),
}


def check(estimator: Any) -> None:
    """Search trees are built again from their points; everything else is left as it is, or refused.

    Raises:
        UnsafeCheckpoint: a tree, a forest or a support vector machine that would read outside its own memory.
    """
    _check_masks(estimator)
    for part in list(walk(estimator)):
        _check_functions(part)
    for part in list(walk(estimator)):
        kind = type(part).__module__
        if kind == "sklearn.tree._tree":
            _check_tree(part)
        elif kind == "sklearn.ensemble._hist_gradient_boosting.predictor":
            _check_predictor(part)
        elif kind == "sklearn.ensemble._hist_gradient_boosting.gradient_boosting" and hasattr(
            part, "_predictors"
        ):
            _check_columns(part, (one.nodes["feature_idx"] for stage in part._predictors for one in stage))
            _check_bins(part)
        elif type(part).__name__ in _MEMBERS and hasattr(part, "estimators_"):
            _check_members(part)
        elif kind == "sklearn.svm._classes" and hasattr(part, "support_vectors_"):
            _check_support_vectors(part)
        elif kind == "lightgbm.sklearn" and getattr(part, "_Booster", None) is not None:
            fits = part._n_features == part._n_features_in == part._Booster.num_feature()
            _require(fits, "trees of other columns than their estimator")
        elif kind.startswith("sklearn.neighbors.") and hasattr(part, "_fit_method"):
            _check_neighbours(part)
            _rebuild_search(part)
        elif kind == "scipy.interpolate._bsplines":
            _check_spline(part)
        if "tree_" in getattr(part, "__dict__", {}):
            fits = kind == "sklearn.tree._classes" and type(part.tree_).__module__ == "sklearn.tree._tree"
            _require(
                fits and part.tree_.n_features == part.n_features_in_,
                "a tree of other columns than its estimator",
            )
    for part in list(walk(estimator)):
        fitted = type(part).__module__ == "sklearn.ensemble._gb" and hasattr(part, "estimators_")
        if fitted and not isinstance(part.init_, str):
            _check_first_guess(part)


def walk(
    value: Any,
    attributes: Callable[[Any], dict[str, Any]] = lambda one: getattr(one, "__dict__", {}),
    arrays: bool = False,
) -> Iterator[Any]:
    """The estimator and everything below it that has attributes, each once.

    ``attributes`` returns those of an object; other ones than its ``__dict__`` leave parts out.
    ``arrays``: yield the arrays too.
    """
    seen: set[int] = set()
    todo = [value]
    while todo:
        current = todo.pop()
        if id(current) in seen or isinstance(current, (*_PLAIN, FunctionType, np.ufunc)):
            continue
        seen.add(id(current))
        if isinstance(current, dict):
            todo += _more_than_plain(current.keys())
            todo += _more_than_plain(current.values())
            todo.append(getattr(current, "default_factory", None))
        elif isinstance(current, (list, tuple, set, frozenset)):
            todo += _more_than_plain(current)
        elif isinstance(current, slice):
            todo += [current.start, current.stop, current.step]
        elif isinstance(current, np.ndarray):
            if arrays:
                yield current
            # Without its mask: tolist() would give None for each element that the mask covers.
            todo += np.ma.getdata(current).ravel().tolist() if current.dtype.kind == "O" else []
        else:
            yield current
            todo += attributes(current).values()
            if hasattr(current, "tree_"):
                todo.append(current.tree_)


def _more_than_plain(values: Iterable[Any]) -> list[Any]:
    """Of a vocabulary of 100,000 terms nothing."""
    return [one for one in values if type(one) not in _PLAIN_TYPES]


def _require(condition: Any, what: str) -> None:
    if not condition:
        raise UnsafeCheckpoint(
            f"The estimator holds {what}, which is refused: running it would read memory that is not its "
            "own. Save it again from scikit-learn.",
            refused=what,
        )


def _check_masks(estimator: Any) -> None:
    """A comparison skips what a mask covers, and native code reads it. Only the results of a search, which no
    prediction reads, have masks.
    """

    def attributes(part: Any) -> dict[str, Any]:
        return {name: one for name, one in getattr(part, "__dict__", {}).items() if name != "cv_results_"}

    for part in walk(estimator, attributes, arrays=True):
        _require(not isinstance(part, np.ma.MaskedArray), "an array with a mask")


def _check_functions(part: Any) -> None:
    """What scikit-learn calls or opens by what the state of an estimator says."""
    kind, state = type(part).__name__, getattr(part, "__dict__", {})
    if isinstance(part, partial):
        _require_code(_is_check(part), "a function with arguments")
    if _is_check(state.get("func")):
        state["func"] = None  # of histogram gradient boosting with categories: it returns its input
    if kind in ("FunctionTransformer", "TransformedTargetRegressor"):
        given = [state.get(name) for name in ("func", "inverse_func")]
        fits = all(one is None or (isinstance(one, np.ufunc) and one.__name__ in FUNCTIONS) for one in given)
        _require_code(fits and not state.get("kw_args") and not state.get("inv_kw_args"), "a function")
    elif kind in ("CountVectorizer", "TfidfVectorizer"):
        plain = (
            state.get("input") == "content"
            and state.get("analyzer") in ("word", "char", "char_wb")
            and all(state.get(name) is None for name in ("preprocessor", "tokenizer"))
            and state.get("strip_accents") in (None, "ascii", "unicode")
        )
        _require_code(
            plain and "_analyzer" not in state,
            "a vectorizer that calls a function or opens files",
            "Fit it without preprocessor and tokenizer, with the analyzer 'word', 'char' or 'char_wb'.",
        )
        check_tokens(state.get("token_pattern"))
        words = state.get("vocabulary_", {})
        places = sorted(words.values()) if isinstance(words, dict) else None
        _require(places == list(range(len(words))), "a vocabulary whose columns are out of range")
    elif kind == "IsotonicRegression" and "X_thresholds_" in state and "f_" not in state:
        part._build_f(part.X_thresholds_, part.y_thresholds_)  # as its __setstate__ does


def check_tokens(pattern: Any) -> None:
    """Raises UnsafeCheckpoint: a ``token_pattern`` of a vectorizer that may search for hours."""
    if pattern is not None and not (isinstance(pattern, str) and is_quick(pattern)):
        raise UnsafeCheckpoint(
            f"The vectorizer splits texts by the token_pattern {str(pattern)[:80]!r}, which is refused: some "
            "patterns never finish. Use characters with one repetition at most, the last one, like the "
            r"default (?u)\b\w\w+\b, and where it ends with \b begin with \b; fit again.",
            refused="token_pattern",
        )


def _is_check(function: Any) -> bool:
    from sklearn.utils import check_array

    return (
        isinstance(function, partial)
        and function.func is check_array
        and not function.args
        and is_check_of_numbers(function.keywords)
    )


def _require_code(
    condition: Any, what: str, advice: str = "Only numpy's plain functions, like log1p, are taken."
) -> None:
    if not condition:
        raise UnsafeCheckpoint(
            f"The estimator holds {what}, which is refused: using it could run code. {advice}",
            refused=what,
        )


def _check_tree(tree: Any) -> None:
    """Children come after their parents, as every builder writes them; so there is no circle either."""
    _require(0 < tree.node_count <= tree.capacity, "a tree that counts more nodes than it has")
    nodes = tree.__getstate__()["nodes"]
    inner = nodes["left_child"] != -1
    position = np.arange(len(nodes))
    for side in ("left_child", "right_child"):
        child = nodes[side]
        fits = np.where(inner, (child > position) & (child < len(nodes)), child == -1)
        _require(fits.all(), "a tree whose branches leave it")
    feature = nodes["feature"][inner]
    _require(
        ((feature >= 0) & (feature < tree.n_features)).all(), "a tree that compares columns out of range"
    )


def _check_predictor(predictor: Any) -> None:
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    nodes = predictor.nodes
    _require(isinstance(nodes, np.ndarray) and nodes.ndim == 1 and len(nodes), "a tree without nodes")
    _require(nodes.dtype == PREDICTOR_RECORD_DTYPE, "a tree of unusual nodes")
    inner = nodes["is_leaf"] == 0
    position = np.arange(len(nodes))[inner]
    for side in ("left", "right"):
        child = nodes[side][inner].astype(np.int64)
        _require(((child > position) & (child < len(nodes))).all(), "a tree whose branches leave it")
    categorical = inner & (nodes["is_categorical"] != 0)
    bitsets = nodes["bitset_idx"][categorical]
    for name in ("raw_left_cat_bitsets", "binned_left_cat_bitsets"):
        table = getattr(predictor, name)
        fits = isinstance(table, np.ndarray) and table.dtype == np.uint32 and table.shape[1:] == (8,)
        _require(fits and (bitsets < len(table)).all(), "a tree whose categories are out of range")


def _check_columns(estimator: Any, used: Any) -> None:
    fits = all(len(one) and one.min() >= 0 and one.max() < estimator.n_features_in_ for one in used)
    _require(fits, "a tree that compares columns out of range")


def _check_members(estimator: Any) -> None:
    """An ensemble hands its rows to its trees without asking again how many columns there are."""
    members = np.asarray(estimator.estimators_, dtype=object).ravel()
    kinds = _MEMBERS[type(estimator).__name__]
    trees = all(
        type(member).__module__ == "sklearn.tree._classes" and type(member).__name__ in kinds
        for member in members
    )
    _require(trees, "a member that is no tree of its ensemble")
    widths = _widths_of_members(estimator, len(members))
    fits = [getattr(member, "n_features_in_", None) for member in members] == widths
    _require(fits and len(members), "a tree of other columns than its ensemble")
    if type(estimator).__module__ == "sklearn.ensemble._gb":
        classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 1
        stages = (estimator.n_estimators_, estimator.n_trees_per_iteration_)
        fits = (
            isinstance(estimator.estimators_, np.ndarray)
            and estimator.estimators_.shape == stages
            and estimator.n_trees_per_iteration_ == (classes if classes > 2 else 1)
        )
        _require(fits, "other trees than its stages have")


def _widths_of_members(estimator: Any, count: int) -> list[int]:
    """How many columns each tree sees: all, or those that an isolation forest chose for it."""
    width = estimator.n_features_in_
    if type(estimator).__name__ != "IsolationForest" or estimator._max_features == width:
        return [width] * count
    chosen = [np.asarray(one) for one in estimator.estimators_features_]
    fits = all(
        one.ndim == 1 and one.dtype.kind in "iu" and ((one >= 0) & (one < width)).all() for one in chosen
    )
    _require(fits, "a tree of columns out of range")
    return [len(one) for one in chosen]


def _check_first_guess(estimator: Any) -> None:
    """The trees add to what ``init_`` answers, in place: it is asked, when all else is known to be sound."""
    stages = any(type(part).__module__ == "sklearn.ensemble._gb" for part in walk(estimator.init_))
    _require(not stages, "a first guess made in stages itself")
    guess = estimator._raw_predict_init(np.zeros((2, estimator.n_features_in_), np.float32))
    fits = isinstance(guess, np.ndarray) and guess.shape == (2, estimator.n_trees_per_iteration_)
    _require(fits, "a first guess of another width than its stages")


def _check_bins(estimator: Any) -> None:
    """What says which columns are categorical is read by column; each category is a bit of 256."""
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
    _require(fits, "bins of other columns than its estimator")
    for column in np.flatnonzero(categorical):
        known = np.asarray(bins.bin_thresholds_[column], float)
        _require(known.ndim == 1 and ((known >= 0) & (known < 256)).all(), "categories out of range")


def _categories(part: Any) -> list[Any]:
    found = getattr(part, "categories_", None)
    return found if isinstance(found, list) else []


def _check_order(estimator: Any) -> None:
    """With categories the columns are encoded and put in another order: as many as there were."""
    before = getattr(estimator, "_preprocessor", None)
    if before is None:
        return
    kinds = [(name, type(one).__name__) for name, one, _ in before.transformers_ if one != "drop"]
    _require(
        type(before).__name__ == "ColumnTransformer"
        and kinds == [("encoder", "OrdinalEncoder"), ("numerical", "FunctionTransformer")],
        "columns that are changed on the way to a tree",
    )
    if any(np.asarray(one).dtype.kind == "O" for part in walk(before) for one in _categories(part)):
        raise InvalidSource(
            f"The {type(estimator).__name__} has categories of strings of its own. Encode them with an "
            "OrdinalEncoder in a ColumnTransformer, name them in categorical_features, and fit again."
        )
    rows = before.transform(np.full((2, estimator.n_features_in_), np.nan))
    fits = isinstance(rows, np.ndarray) and rows.shape == (2, estimator.n_features_in_)
    _require(fits and rows.dtype == np.float64, "columns that are changed on the way to a tree")


def _check_support_vectors(machine: Any) -> None:
    vectors, per_class = machine.support_vectors_, machine._n_support
    _require(
        machine._sparse is False and isinstance(vectors, np.ndarray), "support vectors that are not dense"
    )
    count = len(vectors)
    classifies = type(machine).__name__ in ("SVC", "NuSVC")
    classes = len(per_class) if classifies else 2
    pairs = classes * (classes - 1) // 2
    total = int(np.sum(per_class)) if classifies else count
    support = machine.support_
    known = machine.kernel in ("linear", "poly", "rbf", "sigmoid") and "_impl" not in vars(machine)
    _require(known, "a support vector machine of another kernel or kind")
    _require(
        isinstance(support, np.ndarray)
        and support.dtype.kind == "i"
        and support.shape == (count,)
        and ((support >= 0) & (support < machine.shape_fit_[0])).all(),
        "support vectors that were not among its samples",
    )
    fits = (
        vectors.ndim == 2
        and vectors.shape[1] == machine.n_features_in_
        and bool((np.asarray(per_class) >= 0).all())
        and total == count
        and (len(machine.classes_) == classes if classifies else (np.asarray(per_class) == count).all())
        and machine._dual_coef_.shape == (classes - 1, count)
        and machine._intercept_.shape == (pairs,)
        and all(len(part) in (0, pairs, 2) for part in (machine._probA, machine._probB))
    )
    _require(fits, "a support vector machine of impossible sizes")


def _check_spline(spline: Any) -> None:
    """A new spline of the same knots: scipy reads as many coefficients."""
    state = spline.__dict__
    knots, table, degree = (state.get(name) for name in ("_t", "_c", "k"))
    fits = (
        all(type(one) is np.ndarray and one.dtype == np.float64 for one in (knots, table))
        and (knots.ndim, table.ndim) == (1, 2)
        and type(degree) is int
        and 0 <= degree < len(table) == len(knots) - degree - 1
        and bool(np.isfinite(knots).all() and (np.diff(knots) >= 0).all())
        and isinstance(state.get("extrapolate"), bool)
    )
    _require(fits, "a spline of impossible knots or coefficients")
    made = type(spline).construct_fast(knots, table, degree, extrapolate=state["extrapolate"])
    state.clear()
    state.update(made.__dict__)


def _check_neighbours(estimator: Any) -> None:
    """The classes of the neighbours are counted where ``_y`` says, in a table as long as ``classes_``."""
    points = estimator._fit_X
    fits = (
        isinstance(points, np.ndarray)
        and points.ndim == 2
        and points.dtype.kind in "fiu"
        and points.shape == (estimator.n_samples_fit_, estimator.n_features_in_)
    )
    _require(fits, "neighbours of other columns than its estimator")
    if type(estimator).__name__ not in ("KNeighborsClassifier", "RadiusNeighborsClassifier"):
        return
    labels, classes = estimator._y, estimator.classes_
    if not estimator.outputs_2d_:
        classes = [classes]
    fits = (
        isinstance(labels, np.ndarray)
        and labels.dtype == np.intp
        and labels.shape == ((len(points), len(classes)) if estimator.outputs_2d_ else (len(points),))
        and all(isinstance(one, np.ndarray) and one.ndim == 1 for one in classes)
    )
    _require(fits, "neighbours of impossible classes")
    columns = labels.reshape(len(points), -1).T
    fits = all(
        ((column >= 0) & (column < len(one))).all() for column, one in zip(columns, classes, strict=True)
    )
    _require(fits, "neighbours of impossible classes")
    if type(estimator).__name__ == "KNeighborsClassifier":
        _require(0 < estimator.n_neighbors <= len(points), "fewer neighbours than it asks for")


def _rebuild_search(estimator: Any) -> None:
    """As ``NeighborsBase._fit`` builds it; the one in the file is never asked."""
    from sklearn.neighbors import BallTree, KDTree

    builders = {"kd_tree": KDTree, "ball_tree": BallTree}
    estimator._tree = None
    if estimator._fit_method in builders:
        estimator._tree = builders[estimator._fit_method](
            estimator._fit_X,
            estimator.leaf_size,
            metric=estimator.effective_metric_,
            **(estimator.effective_metric_params_ or {}),
        )
