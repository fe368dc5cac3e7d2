"""Mean intersection over union of masks: the mean over the classes that occur, over all pixels.

Predictions and labels are int[n, height, width]. Pixels whose label is 255 or negative are not counted.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ..errors import InvalidDataset
from .bootstrap import affordable

IGNORED = 255
_MAX_CLASSES = 1000
# Pairs of mask and class in all samples together, which take about half a minute.
_PAIRS = 5_000_000_000


class MaskTally:
    """See ``metrics.Tally``."""

    lacking: frozenset[str] = frozenset()

    def __init__(self) -> None:
        # int64[rows, 3, classes]: the pixels that are shared, labelled and predicted
        self._parts: list[npt.NDArray[np.int64]] = []

    @property
    def rows(self) -> int:
        return sum(map(len, self._parts))

    def add(self, predictions: npt.NDArray[np.generic], labels: npt.NDArray[np.int64]) -> None:
        if predictions.shape != labels.shape:
            raise InvalidDataset(
                f"The model returns masks of {list(predictions.shape[1:])} pixels, but the labels have "
                f"{list(labels.shape[1:])}. Scale the labels to the size of the model's output."
            )
        for predicted, label in zip(predictions.astype(np.int64), labels, strict=True):
            counted = (label >= 0) & (label != IGNORED)
            predicted, label = predicted[counted], label[counted]
            size = int(max(predicted.max(initial=0), label.max(initial=0))) + 1
            if size > _MAX_CLASSES or predicted.min(initial=0) < 0:
                raise InvalidDataset(f"Masks have the classes 0 to {_MAX_CLASSES - 1}, not {size - 1}.")
            pairs = (label[label == predicted], label, predicted)
            self._parts.append(np.stack([np.bincount(one, minlength=size) for one in pairs])[None])

    def values(self, names: Iterable[str]) -> dict[str, float]:
        return self.resampled(names, np.ones(self.rows, np.int64))

    def resampled(self, names: Iterable[str], counts: npt.NDArray[np.int64]) -> dict[str, float]:
        shared, labelled, predicted = np.einsum("n,nkc->kc", counts, self._whole())
        union = labelled + predicted - shared
        present = union > 0
        iou = float((shared[present] / union[present]).mean()) if present.any() else 0.0
        return dict.fromkeys(names, iou)

    def resamples(self, most: int) -> int:
        return affordable(most, _PAIRS, self._whole().size // 3)

    def _whole(self) -> npt.NDArray[np.int64]:
        """Return the parts together, joined once: a bootstrap reads them for each sample."""
        if len(self._parts) > 1:
            whole = np.zeros((self.rows, 3, max(part.shape[2] for part in self._parts)), np.int64)
            row = 0
            for part in self._parts:
                whole[row : row + len(part), :, : part.shape[2]] = part
                row += len(part)
            self._parts = [whole]
        return self._parts[0]


def of(task: str) -> MaskTally:
    return MaskTally()
