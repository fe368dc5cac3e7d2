"""The judgement of an optimised artefact: how much worse it is than the original model on a dataset's rows.

The main metric of the dataset's task is compared as a validation compares it. Without usable labels, the
outputs are compared with the original model's. Both models get the same rows, so that the interval of the
difference is that of paired observations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays, copied
from ..datasets.base import Dataset
from ..datasets.schema import CLASSIFICATION, DETECTION, RECONSTRUCTION, REGRESSION, SEGMENTATION
from ..errors import ConversionFailed, InvalidDataset
from ..metrics import bootstrap
from ..metrics.decoding import Decoder, ModelFacts, decoder
from ..proof import validation

Predict = Callable[[Arrays], Arrays]

DIFFERENCE = "difference"
# Task → the metric that decides.
_OF_TASK = {
    CLASSIFICATION: "accuracy",
    REGRESSION: "mse",
    RECONSTRUCTION: "mse",
    SEGMENTATION: "iou",
    DETECTION: "mAP50-95",
}
METRICS = (*dict.fromkeys(_OF_TASK.values()), DIFFERENCE)
# The largest accepted drop, as ``validation`` computes it; the difference is relative to the outputs' norm.
ALLOWED = {"mse": 0.02, DIFFERENCE: 0.05}
_ALLOWED = 0.01
_ROWS = 2000
_BATCH = 32
_SEED = 0


class Judge:
    """Judges artefacts on ``judged``, and draws inputs from ``calibration``; see ``base.Data``.

    Args:
        model: what is known about the original model's outputs.
        allowed: metric → the largest accepted drop, instead of ``ALLOWED``.
    """

    def __init__(
        self,
        original: Predict,
        calibration: Dataset | None,
        judged: Dataset,
        model: ModelFacts,
        allowed: dict[str, float] | None = None,
    ) -> None:
        self._original = original
        self._calibration = calibration
        self._judged = judged
        self._model = model
        self._decoder = _decoder_of(original, judged, model)
        self.metric = DIFFERENCE if self._decoder is None else _OF_TASK[str(judged.task)]
        self.allowed_drop = (allowed or {}).get(self.metric, ALLOWED.get(self.metric, _ALLOWED))

    def against(self, original: Predict) -> Judge:
        """Return a judge on the same rows with another original model."""
        allowed = {self.metric: self.allowed_drop}
        return Judge(original, self._calibration, self._judged, self._model, allowed)

    def inputs(self, samples: int) -> Iterator[Arrays]:
        """Yield calibration inputs; see ``base.Data``."""
        assert self._calibration is not None
        for batch in self._calibration.batches(_BATCH, samples, _SEED):
            yield batch.inputs

    def drop(self, predict: Predict) -> float:
        """Return the drop of the metric; positive is worse.

        Raises:
            ConversionFailed: the artefact's outputs are not numbers, or do not fit.
        """
        if self._decoder is None:
            return _relative(*self._distances(predict))
        return validation.drop(
            self._original, predict, self._judged, self._decoder, self.metric, samples=_ROWS, seed=_SEED
        )

    def judge(self, predict: Predict) -> dict[str, Any]:
        """Return the judgement for fidelity.json.

        It is ``passed`` if the lower end of the drop's 95 % interval is at most the allowed drop, and
        ``certain`` if the other end is on the same side. ``certain`` false: more rows would decide.

        Raises:
            ConversionFailed: as ``drop``.
        """
        compared = self._compared(predict)
        low, high = compared["interval"]
        passed = low <= self.allowed_drop
        return {
            "dataset": self._judged.describe(),
            "metric": self.metric,
            **{name: value for name, value in compared.items() if value is not None},
            "allowed_drop": self.allowed_drop,
            "seed": _SEED,
            "passed": passed,
            "certain": passed == (high <= self.allowed_drop),
        }

    def _compared(self, predict: Predict) -> dict[str, Any]:
        if self._decoder is None:
            norms, distances = self._distances(predict)
            drawn = np.random.default_rng(_SEED).integers(0, len(norms), (bootstrap.RESAMPLES, len(norms)))
            drops = np.array([_relative(norms[rows], distances[rows]) for rows in drawn])
            drop = _relative(norms, distances)
            return {"samples": len(norms), "drop": round(drop, 6), "interval": bootstrap.interval(drops)}
        found = validation.validate(
            self._original,
            predict,
            self._judged,
            self._decoder,
            [self.metric],
            samples=_ROWS,
            seed=_SEED,
        ).document
        return {"samples": found["samples"], **found["metrics"][self.metric]}

    def _distances(self, predict: Predict) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return, by row, the squared norm of the original outputs, and that of the difference from them.

        Raises:
            ConversionFailed: the artefact returns NaN or infinity where the original model does not.
        """
        pairs = []
        for batch in self._judged.batches(_BATCH, _ROWS, _SEED):
            own, other = self._original(copied(batch.inputs)), predict(copied(batch.inputs))
            zeros = {name: np.zeros_like(array) for name, array in own.items()}
            pairs.append((_distance(own, zeros, len(batch)), _distance(other, own, len(batch))))
        norms, distances = (np.concatenate(part) for part in zip(*pairs, strict=True))
        if not np.isfinite(distances).all():
            raise ConversionFailed("The optimised artefact returns NaN or infinity for rows of the dataset.")
        return norms, distances


def _decoder_of(original: Predict, judged: Dataset, model: ModelFacts) -> Decoder | None:
    """Return the decoder of the task; None if the rows have no label, or the outputs are not the task's."""
    first = next(judged.batches(_BATCH, _ROWS, _SEED))
    if first.labels is None and judged.task != RECONSTRUCTION:
        return None
    try:
        decoder(judged.task, model).decode(original(copied(first.inputs)), first)
        return decoder(judged.task, model)
    except InvalidDataset:
        return None


def _relative(norms: npt.NDArray[np.float64], distances: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(distances.mean() / max(norms.mean(), np.finfo(np.float64).tiny)))


def _distance(left: Arrays, right: Arrays, rows: int) -> npt.NDArray[np.float64]:
    """Return the squared distance of each row: the sum of the outputs' means."""
    total = np.zeros(rows)
    for name, array in left.items():
        if array.dtype.kind == "f" and array.ndim and len(array) >= rows:
            difference = array[:rows].astype(np.float64) - right[name][:rows].astype(np.float64)
            total += np.square(difference).reshape(rows, -1).mean(axis=1)
    return total
