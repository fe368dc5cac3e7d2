"""Check estimators that search neighbours: the points, their classes, and the search tree."""

from typing import Any

import numpy as np

from .native_refusals import require


def check_neighbours(estimator: Any) -> None:
    """Check ``_y``: native code uses it to index a table as long as ``classes_``."""
    points = estimator._fit_X
    fits = (
        isinstance(points, np.ndarray)
        and points.ndim == 2
        and points.dtype.kind in "fiu"
        and points.shape == (estimator.n_samples_fit_, estimator.n_features_in_)
    )
    require(fits, "neighbours with other columns than their estimator")
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
    require(fits, "neighbours with impossible classes")
    columns = labels.reshape(len(points), -1).T
    fits = all(
        ((column >= 0) & (column < len(one))).all() for column, one in zip(columns, classes, strict=True)
    )
    require(fits, "neighbours with impossible classes")
    if type(estimator).__name__ == "KNeighborsClassifier":
        require(0 < estimator.n_neighbors <= len(points), "fewer neighbours than it needs")


def rebuild_search(estimator: Any) -> None:
    """Rebuild the search tree like ``NeighborsBase._fit``; the tree in the file is never used."""
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
