"""The judgement of an optimised artefact: how much worse it is than the original model on a dataset's rows.

Each row has a loss: 1 for a wrong class; the mean squared error of a regression or a reconstruction; without
a usable label, the squared difference from the original model's outputs. The original model and the artefact
get the same rows, so that the interval of the difference is that of paired observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, copied
from ..datasets.base import Batch, Dataset
from ..datasets.schema import CLASSIFICATION, RECONSTRUCTION, REGRESSION

Predict = Callable[[Arrays], Arrays]

ACCURACY = "accuracy"
MSE = "mse"
DIFFERENCE = "difference"
# The largest accepted drop: accuracy in absolute terms, the mean squared error relative to the original's,
# the difference relative to the outputs' norm.
ALLOWED = {ACCURACY: 0.01, MSE: 0.02, DIFFERENCE: 0.05}
_ROWS = 2000
_BATCH = 32
_RESAMPLES = 1000
_SEED = 0


class Judge:
    """Judges artefacts on ``judged``, and draws inputs from ``calibration``; see ``base.Data``."""

    def __init__(
        self,
        original: Predict,
        calibration: Dataset | None,
        judged: Dataset,
        allowed: dict[str, float] | None = None,
    ) -> None:
        self._original = original
        self._calibration = calibration
        self._judged = judged
        first = next(judged.batches(_BATCH, _ROWS, _SEED))
        self.metric = _metric(judged.task, first, original(copied(first.inputs)))
        self.allowed_drop = (allowed or {}).get(self.metric, ALLOWED[self.metric])

    def against(self, original: Predict) -> Judge:
        """Return a judge on the same rows with another original model."""
        return Judge(original, self._calibration, self._judged, {self.metric: self.allowed_drop})

    def inputs(self, samples: int) -> Iterator[Arrays]:
        """Yield calibration inputs; see ``base.Data``."""
        assert self._calibration is not None
        for batch in self._calibration.batches(_BATCH, samples, _SEED):
            yield batch.inputs

    def drop(self, predict: Predict) -> float:
        """Return the drop of the main metric; positive is worse. The unit is that of ``ALLOWED``."""
        return self._drop(*self._losses(predict))

    def judge(self, predict: Predict) -> dict[str, Any]:
        """Return the judgement for fidelity.json.

        It is ``passed`` if the lower end of the drop's 95 % interval is at most the allowed drop.
        """
        own, other = self._losses(predict)
        draws = np.random.default_rng(_SEED).integers(0, len(own), (_RESAMPLES, len(own)))
        drops = [self._drop(own[rows], other[rows]) for rows in draws]
        low, high = (float(value) for value in np.percentile(drops, (2.5, 97.5)))
        found = {"original": float(own.mean()), "artefact": float(other.mean())}
        if self.metric == ACCURACY:
            found = {name: 1 - value for name, value in found.items()}
        elif self.metric == DIFFERENCE:
            found = {}
        return {
            "dataset": self._judged.describe(),
            "samples": len(own),
            "metric": self.metric,
            **{name: round(value, 6) for name, value in found.items()},
            "drop": round(self._drop(own, other), 6),
            "interval": [round(low, 6), round(high, 6)],
            "allowed_drop": self.allowed_drop,
            "resamples": _RESAMPLES,
            "seed": _SEED,
            "passed": low <= self.allowed_drop,
        }

    def _drop(self, own: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
        if self.metric == ACCURACY:
            return float(other.mean() - own.mean())
        least = np.finfo(np.float64).tiny
        if self.metric == MSE:
            return float(other.mean() / max(own.mean(), least) - 1)
        return float(np.sqrt(other.mean() / max(own.mean(), least)))

    def _losses(self, predict: Predict) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the loss of each row, float64[rows], of the original model and of the artefact.

        For DIFFERENCE: the squared norm of the original outputs, and that of the difference.
        """
        pairs = []
        for batch in self._judged.batches(_BATCH, _ROWS, _SEED):
            own, other = self._original(copied(batch.inputs)), predict(copied(batch.inputs))
            pairs.append(self._pair(batch, own, other))
        return np.concatenate([own for own, _ in pairs]), np.concatenate([other for _, other in pairs])

    def _pair(
        self, batch: Batch, own: Arrays, other: Arrays
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        rows = len(batch)
        if self.metric == DIFFERENCE:
            zeros = {name: np.zeros_like(array) for name, array in own.items()}
            return _distance(own, zeros, rows), _distance(other, own, rows)
        name, wanted = _target(self._judged.task, batch, own)
        return _loss(own[name][:rows], wanted), _loss(other[name][:rows], wanted)


def _metric(task: str | None, batch: Batch, outputs: Arrays) -> str:
    if _target(task, batch, outputs)[0] == "":
        return DIFFERENCE
    return ACCURACY if task == CLASSIFICATION else MSE


def _target(task: str | None, batch: Batch, outputs: Arrays) -> tuple[str, npt.NDArray[Any]]:
    """Return the output that a loss is computed from, and its wanted values; "" if there is none."""
    rows = len(batch)
    for name, array in outputs.items():
        if array.dtype.kind != "f" or not array.ndim or len(array) < rows:
            continue
        if task == CLASSIFICATION and batch.labels is not None and array.ndim == 2 and array.shape[1] > 1:
            return name, batch.labels
        if task == REGRESSION and batch.labels is not None and array[:rows].size == batch.labels.size:
            return name, batch.labels
        if task == RECONSTRUCTION:
            for given in batch.inputs.values():
                if given.shape == array.shape:
                    return name, given[:rows]
    return "", np.empty(0)


def _loss(scores: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64]
    if wanted.dtype.kind in "iu":
        found = (scores.argmax(axis=1) != wanted).astype(np.float64)
        return found
    difference = scores.reshape(len(scores), -1).astype(np.float64) - wanted.reshape(len(scores), -1)
    found = np.square(difference).mean(axis=1)
    return found


def _distance(left: Arrays, right: Arrays, rows: int) -> npt.NDArray[np.float64]:
    """Return the squared distance of each row: the sum of the outputs' means."""
    total = np.zeros(rows)
    for name, array in left.items():
        if array.dtype.kind == "f" and array.ndim and len(array) >= rows:
            difference = array[:rows].astype(np.float64) - right[name][:rows].astype(np.float64)
            total += np.square(difference).reshape(rows, -1).mean(axis=1)
    return total
