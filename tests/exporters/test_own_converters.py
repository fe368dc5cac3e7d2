"""Estimators that skl2onnx lacks, or converts into something slow or wrong: converters of our own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.preprocessing import QuantileTransformer

from exporters import sources
from exporters.errors import UnsafeCheckpoint

from .test_tabular_models import WINE, check, held_out

Made = tuple[Any, npt.ArrayLike]  # a fitted estimator and rows

GAPS = np.where(np.random.default_rng(1).random(WINE.shape) < 0.1, np.nan, WINE)
STEPS = np.round(WINE / 5)

MODELS: dict[str, Callable[[], Made]] = {
    "isolation forest": lambda: (
        IsolationForest(n_estimators=20, random_state=0).fit(GAPS),
        np.vstack([held_out(WINE), GAPS]),
    ),
    "isolation forest of some columns": lambda: (
        IsolationForest(n_estimators=20, max_features=0.5, contamination=0.2, random_state=0).fit(WINE),
        held_out(WINE),
    ),
    "isolation forest of one row": lambda: (
        IsolationForest(n_estimators=3, max_samples=1, random_state=0).fit(WINE),
        held_out(WINE),
    ),
    "quantiles": lambda: (
        QuantileTransformer(n_quantiles=100).fit(GAPS),
        np.vstack([held_out(WINE), GAPS]),
    ),
    "quantiles, many of them equal": lambda: (
        QuantileTransformer(n_quantiles=100).fit(STEPS),
        np.vstack([held_out(WINE), STEPS]),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_it_answers_as_the_estimator(name: str, tmp_path: Path) -> None:
    estimator, rows = MODELS[name]()
    check(estimator, rows, tmp_path)


def test_an_isolation_forest_of_columns_out_of_range_is_refused(tmp_path: Path) -> None:
    forest = IsolationForest(n_estimators=3, max_features=0.5, random_state=0).fit(WINE)
    forest.estimators_features_[1][0] = 4_000_000
    joblib.dump(forest, tmp_path / "model.joblib")

    with pytest.raises(UnsafeCheckpoint, match="columns out of range"):
        sources.load(tmp_path / "model.joblib", {})
