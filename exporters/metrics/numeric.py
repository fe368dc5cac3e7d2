"""Mean squared and absolute error, and R2.

Predictions and labels are float[n, …] of one shape. R2 is the mean of those of the columns. Of a
reconstruction only the errors of each row are kept, because its rows are as large as the inputs.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..datasets.schema import RECONSTRUCTION
from ..errors import InvalidDataset
from .bootstrap import affordable
from .rows import Rows

_MAX_NUMBERS = 100_000_000
# Of the labels in all samples together: R2 reads each, which takes about half a minute.
_DRAWN_NUMBERS = 2_000_000_000


class NumberTally:
    """See ``metrics.Tally``. ``keeps``: whether labels and predictions are kept, which R2 needs."""

    lacking: frozenset[str] = frozenset()

    def __init__(self, keeps: bool) -> None:
        self._keeps = keeps
        self._squared, self._absolute = Rows(), Rows()
        self._labels, self._predicted = Rows(), Rows()

    @property
    def rows(self) -> int:
        return len(self._squared)

    def add(self, predictions: npt.NDArray[np.generic], labels: npt.NDArray[np.generic]) -> None:
        if predictions.shape != labels.shape:
            raise InvalidDataset(
                f"The model returns {list(predictions.shape[1:])} numbers for each row, but the label has "
                f"{list(labels.shape[1:])}."
            )
        rows = len(labels)
        predicted = predictions.astype(np.float64).reshape(rows, -1)
        wanted = labels.astype(np.float64).reshape(rows, -1)
        if not np.isfinite(predicted).all():
            raise InvalidDataset("The model returns NaN or infinity for a row of the dataset.")
        self._squared.add(np.square(predicted - wanted).mean(axis=1))
        self._absolute.add(np.abs(predicted - wanted).mean(axis=1))
        if self._keeps:
            if (len(self._labels) + rows) * wanted.shape[1] > _MAX_NUMBERS:
                raise InvalidDataset(
                    f"The labels have more than {_MAX_NUMBERS:,} numbers. Use fewer samples."
                )
            self._labels.add(wanted)
            self._predicted.add(predicted)

    def values(self, names: Iterable[str]) -> dict[str, float]:
        from sklearn import metrics

        found = {}
        for name in names:
            if not self._keeps:
                found[name] = float((self._squared if name == "mse" else self._absolute).whole.mean())
                continue
            function = {
                "mse": metrics.mean_squared_error,
                "mae": metrics.mean_absolute_error,
                "r2": metrics.r2_score,
            }[name]
            # R2 of one row is not defined
            defined = name != "r2" or self.rows > 1
            found[name] = float(function(self._labels.whole, self._predicted.whole)) if defined else 0.0
        return found

    def resampled(self, names: Iterable[str], counts: npt.NDArray[np.int64]) -> dict[str, float]:
        total = counts.sum()
        found = {
            "mse": counts @ self._squared.whole / total,
            "mae": counts @ self._absolute.whole / total,
        }
        if "r2" in names:
            labels, weights = self._labels.whole, counts.astype(np.float64)
            residual = weights @ np.square(labels - self._predicted.whole)
            spread = weights @ np.square(labels - weights @ labels / total)
            # As scikit-learn does for a constant label
            constant = np.where(residual == 0, 1.0, 0.0)
            ratio = np.divide(residual, spread, out=np.zeros_like(residual), where=spread > 0)
            found["r2"] = np.where(spread > 0, 1 - ratio, constant).mean()
        return {name: float(found[name]) for name in names}

    def resamples(self, most: int) -> int:
        return affordable(most, _DRAWN_NUMBERS, self._labels.whole.size) if self._keeps else most


def of(task: str) -> NumberTally:
    return NumberTally(keeps=task != RECONSTRUCTION)
