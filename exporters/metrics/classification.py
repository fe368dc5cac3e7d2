"""Accuracy, top-5 accuracy, and macro F1, precision and recall.

Predictions are scores float[n, classes], or the predicted classes int[n]; labels are int[n].
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidDataset
from .rows import Rows

_TOP = 5


class ClassTally:
    """See ``metrics.Tally``."""

    def __init__(self) -> None:
        self.lacking: frozenset[str] = frozenset()
        self._labels, self._predicted = Rows(), Rows()
        self._ranks = Rows()  # of the right class; 0 is the best score
        self._codes: npt.NDArray[np.int64] | None = None

    @property
    def rows(self) -> int:
        return len(self._labels)

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        return self._labels.whole

    @property
    def predicted(self) -> npt.NDArray[np.int32]:
        return self._predicted.whole

    def add(self, predictions: npt.NDArray[np.generic], labels: npt.NDArray[np.int64]) -> None:
        if predictions.ndim == 1:
            self.lacking = frozenset({"top5"})
            predicted = predictions.astype(np.int64)
            ranks = np.where(predicted == labels, 0, _TOP)
        else:
            count = predictions.shape[1]
            if len(labels) and not 0 <= labels.min() <= labels.max() < count:
                wrong = labels.max() if labels.min() >= 0 else labels.min()
                raise InvalidDataset(
                    f"The dataset has the class {wrong}, but the model has {count} classes. Name the classes "
                    "of the model and of the dataset."
                )
            scores = np.where(np.isnan(predictions.astype(np.float64)), -np.inf, predictions)
            predicted = scores.argmax(axis=1)
            right = scores[np.arange(len(labels)), labels][:, None]
            tied_before = (scores == right) & (np.arange(count) < labels[:, None])
            ranks = ((scores > right) | tied_before).sum(axis=1)
        self._codes = None
        self._labels.add(labels.astype(np.int32))
        self._predicted.add(predicted.astype(np.int32))
        self._ranks.add(ranks.astype(np.int32))

    def values(self, names: Iterable[str]) -> dict[str, float]:
        from sklearn import metrics

        names = list(names)
        if self.lacking.intersection(names):
            raise InvalidDataset(
                "The model returns classes without scores, so top5 cannot be computed. Choose other metrics."
            )
        labels, predicted = self._labels.whole, self._predicted.whole
        macro: dict[str, Any] = {"average": "macro", "zero_division": 0}
        functions: dict[str, Callable[[], Any]] = {
            "accuracy": lambda: metrics.accuracy_score(labels, predicted),
            "top5": lambda: np.mean(self._ranks.whole < _TOP),
            "f1": lambda: metrics.f1_score(labels, predicted, **macro),
            "precision": lambda: metrics.precision_score(labels, predicted, **macro),
            "recall": lambda: metrics.recall_score(labels, predicted, **macro),
        }
        return {name: float(functions[name]()) for name in names}

    def resampled(self, names: Iterable[str], counts: npt.NDArray[np.int64]) -> dict[str, float]:
        """Return the metrics of ``values`` from sums: a thousand calls of scikit-learn take too long."""
        labels, predicted, total = self._labels.whole, self._predicted.whole, counts.sum()
        right = counts * (labels == predicted)
        found = {"accuracy": right.sum() / total, "top5": counts[self._ranks.whole < _TOP].sum() / total}
        if set(names) - set(found):
            if self._codes is None:  # the classes that occur, counted from 0: ids may be large
                together = np.concatenate([labels, predicted])
                self._codes = np.unique(together, return_inverse=True)[1].reshape(2, -1)
            labels, predicted = self._codes
            size = int(self._codes.max()) + 1
            hits, actual, called = (
                np.bincount(which, weights, size)
                for which, weights in ((labels, right), (labels, counts), (predicted, counts))
            )
            present = actual + called > 0
            hits, actual, called = hits[present], actual[present], called[present]
            found["precision"] = (hits / np.maximum(called, 1)).mean()
            found["recall"] = (hits / np.maximum(actual, 1)).mean()
            found["f1"] = (2 * hits / (actual + called)).mean()
        return {name: float(found[name]) for name in names}

    def resamples(self, most: int) -> int:
        return most


def of(task: str) -> ClassTally:
    return ClassTally()
