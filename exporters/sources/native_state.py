"""Check the numbers of a fitted estimator that native code uses as addresses without a check.

Neither pickle nor ``.skops`` causes this: plain arrays say which node is whose child and which column is
compared, and scikit-learn's compiled loops follow them past the end of the array (scikit-learn #34558). The
check runs once after loading, for every kind of file.
"""

from typing import Any

import numpy as np

from . import native_functions, native_neighbours, native_trees
from .native_refusals import require
from .objects import walk


def check(estimator: Any) -> None:
    """Check the estimator; search trees are rebuilt from their points.

    Raises:
        UnsafeCheckpoint: a tree, a forest or a support vector machine that would read outside its own memory.
    """
    _check_masks(estimator)
    for part in list(walk(estimator)):
        native_functions.check_functions(part)
    for part in list(walk(estimator)):
        kind = type(part).__module__
        if kind == "sklearn.tree._tree":
            native_trees.check_tree(part)
        elif kind == "sklearn.ensemble._hist_gradient_boosting.predictor":
            native_trees.check_predictor(part)
        elif kind == "sklearn.ensemble._hist_gradient_boosting.gradient_boosting" and hasattr(
            part, "_predictors"
        ):
            native_trees.check_columns(
                part, (one.nodes["feature_idx"] for stage in part._predictors for one in stage)
            )
            native_trees.check_bins(part)
        elif type(part).__name__ in native_trees.MEMBERS and hasattr(part, "estimators_"):
            native_trees.check_members(part)
        elif kind == "sklearn.svm._classes" and hasattr(part, "support_vectors_"):
            _check_support_vectors(part)
        elif kind == "lightgbm.sklearn" and getattr(part, "_Booster", None) is not None:
            fits = part._n_features == part._n_features_in == part._Booster.num_feature()
            require(fits, "trees with other columns than their estimator")
        elif kind.startswith("sklearn.neighbors.") and hasattr(part, "_fit_method"):
            native_neighbours.check_neighbours(part)
            native_neighbours.rebuild_search(part)
        elif kind == "scipy.interpolate._bsplines":
            _check_spline(part)
        if "tree_" in getattr(part, "__dict__", {}):
            fits = kind == "sklearn.tree._classes" and type(part.tree_).__module__ == "sklearn.tree._tree"
            require(
                fits and part.tree_.n_features == part.n_features_in_,
                "a tree with other columns than its estimator",
            )
    for part in list(walk(estimator)):
        fitted = type(part).__module__ == "sklearn.ensemble._gb" and hasattr(part, "estimators_")
        if fitted and not isinstance(part.init_, str):
            native_trees.check_first_guess(part)


def _check_masks(estimator: Any) -> None:
    """Refuse masked arrays: comparisons skip masked elements, but native code reads them.

    The results of a search (``cv_results_``) may have masks, because no prediction reads them.
    """

    def attributes(part: Any) -> dict[str, Any]:
        return {name: one for name, one in getattr(part, "__dict__", {}).items() if name != "cv_results_"}

    for part in walk(estimator, attributes, arrays=True):
        require(not isinstance(part, np.ma.MaskedArray), "an array with a mask")


def _check_support_vectors(machine: Any) -> None:
    vectors, per_class = machine.support_vectors_, machine._n_support
    require(
        machine._sparse is False and isinstance(vectors, np.ndarray), "support vectors that are not dense"
    )
    count = len(vectors)
    classifies = type(machine).__name__ in ("SVC", "NuSVC")
    classes = len(per_class) if classifies else 2
    pairs = classes * (classes - 1) // 2
    total = int(np.sum(per_class)) if classifies else count
    support = machine.support_
    known = machine.kernel in ("linear", "poly", "rbf", "sigmoid") and "_impl" not in vars(machine)
    require(known, "a support vector machine with another kernel or kind")
    require(
        isinstance(support, np.ndarray)
        and support.dtype.kind == "i"
        and support.shape == (count,)
        and ((support >= 0) & (support < machine.shape_fit_[0])).all(),
        "support vectors that are not among its samples",
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
    require(fits, "a support vector machine with impossible sizes")


def _check_spline(spline: Any) -> None:
    """Replace the spline by a new one of the same knots: scipy reads as many coefficients."""
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
    require(fits, "a spline with impossible knots or coefficients")
    made = type(spline).construct_fast(knots, table, degree, extrapolate=state["extrapolate"])
    state.clear()
    state.update(made.__dict__)
