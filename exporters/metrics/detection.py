"""Mean average precision of boxes as COCO defines it, computed by faster-coco-eval.

A prediction is ``Found`` for each image, a label ``datasets.reader.Truth``; both are lists.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..datasets.reader import Truth
from .bootstrap import affordable

# Samples are limited to so many pairs of image and class, which take about half a minute of one core.
_PAIRS = 20_000_000


@dataclass(frozen=True)
class Found:
    """The detections in an image: float[n, 4] as x1, y1, x2, y2 in its pixels, float[n] and int[n]."""

    boxes: npt.NDArray[Any]
    scores: npt.NDArray[Any]
    classes: npt.NDArray[Any]


class BoxTally:
    """See ``metrics.Tally``."""

    lacking: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self._found: list[Found] = []
        self._truths: list[Truth] = []
        self._evaluated: _Evaluated | None = None

    @property
    def rows(self) -> int:
        return len(self._truths)

    def add(self, predictions: Sequence[Found], labels: Sequence[Truth]) -> None:
        self._found += predictions
        self._truths += labels
        self._evaluated = None

    def values(self, names: Iterable[str]) -> dict[str, float]:
        return self.resampled(names, np.ones(self.rows, np.int64))

    def resampled(self, names: Iterable[str], counts: npt.NDArray[np.int64]) -> dict[str, float]:
        if self._evaluated is None:
            self._evaluated = _Evaluated(self._found, self._truths)
        precision = self._evaluated.precision(np.repeat(np.arange(len(counts)), counts))
        return {name: _mean(precision[:1] if name == "mAP50" else precision) for name in names}

    def resamples(self, most: int) -> int:
        classes = {int(one) for truth in self._truths for one in truth.classes}
        return affordable(most, _PAIRS, len(classes) * self.rows)


class _Evaluated:
    """The matches of detections and objects in each image, from which any sample of images is accumulated."""

    def __init__(self, found: Sequence[Found], truths: Sequence[Truth]) -> None:
        from faster_coco_eval import COCO, COCOeval_faster

        classes = sorted({int(one) for each in truths for one in each.classes})
        given = COCO(
            {
                "images": [{"id": number} for number in range(len(truths))],
                "categories": [{"id": one, "name": str(one)} for one in classes],
                "annotations": _numbered(
                    {
                        **_box(truth.boxes[i], number, truth.classes[i], truth.areas[i]),
                        "iscrowd": int(truth.crowd[i]),
                    }
                    for number, truth in enumerate(truths)
                    for i in range(len(truth.boxes))
                ),
            }
        )
        detected = COCO(
            {
                **given.dataset,
                "annotations": _numbered(
                    {
                        **_box(one.boxes[i], number, one.classes[i]),
                        "score": float(one.scores[i]),
                        "iscrowd": 0,
                    }
                    for number, one in enumerate(found)
                    for i in range(len(one.boxes))
                ),
            }
        )
        evaluation = COCOeval_faster(given, detected, "bbox", separate_eval=True)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = evaluation.params.maxDets[-1:]
        evaluation.evaluate()
        self._parameters = evaluation._paramsEval
        images = len(truths)
        matches = evaluation._evalImgs_cpp
        self._by_class = [matches[start : start + images] for start in range(0, len(matches), images)]

    def precision(self, images: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return float[IoU thresholds, recalls, classes]; -1 for a class without an object."""
        from faster_coco_eval.faster_eval_api_cpp import COCOevalAccumulate

        self._parameters.imgIds = list(range(len(images)))
        chosen = [one[image] for one in self._by_class for image in images.tolist()]
        whole = np.asarray(COCOevalAccumulate(self._parameters, chosen)["precision"])
        counted: npt.NDArray[np.float64] = whole[:, :, :, 0, -1]
        return counted


def _box(corners: npt.NDArray[Any], image: int, category: Any, area: float | None = None) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, corners)
    box = [x1, y1, x2 - x1, y2 - y1]
    return {
        "image_id": image,
        "category_id": int(category),
        "bbox": box,
        "area": box[2] * box[3] if area is None else float(area),
    }


def _numbered(annotations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**one, "id": number} for number, one in enumerate(annotations, 1)]


def _mean(precision: npt.NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0


def of(task: str) -> BoxTally:
    return BoxTally()
