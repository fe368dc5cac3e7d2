"""From the outputs of a model to the predictions that a tally takes, by task.

The same decoder decodes the source's and the artefact's outputs, the source's first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Labels
from ..datasets.base import Batch
from ..datasets.labels import numbered
from ..datasets.schema import CLASSIFICATION, DETECTION, RECONSTRUCTION, REGRESSION, SEGMENTATION
from ..errors import InvalidDataset
from ..processing import detect
from .detection import Found

# Boxes below a declared threshold count too: average precision needs all scores.
_CONFIDENCE = 0.001
_DETECTIONS = 300
_SHOWN_CONFIDENCE = 0.25


class Decoder(Protocol):
    def decode(self, outputs: Arrays, batch: Batch) -> Any:
        """Return the predictions. Raises InvalidDataset: the outputs are not those of the task."""

    def labels(self, batch: Batch) -> Any:
        """Return the labels in the form of the predictions."""

    def changes(self, original: Any, artefact: Any) -> npt.NDArray[np.float64]:
        """Return, by row, how far two predictions are apart; 0 is equal."""

    def shown(self, predictions: Any, row: int) -> Any:
        """Return one row's prediction or label as short JSON."""


@dataclass(frozen=True)
class ModelFacts:
    """What a decoder needs to know about a model. ``labels``: as ``base.Source.labels``."""

    labels: Mapping[str, Labels] = field(default_factory=dict)
    postprocessing: Mapping[str, Any] | None = None
    classes: tuple[str, ...] | None = None


def decoder(task: str | None, model: ModelFacts) -> Decoder:
    """Return the decoder of a task. Raises InvalidDataset: the task or the model's processing is unknown."""
    if task == CLASSIFICATION:
        return _Classes(model)
    if task == REGRESSION:
        return _Numbers()
    if task == RECONSTRUCTION:
        return _Reconstruction()
    if task == SEGMENTATION:
        return _Masks()
    if task == DETECTION:
        if model.postprocessing is None or "nms" not in model.postprocessing:
            raise InvalidDataset(
                "The model declares no postprocessing with nms, so its outputs cannot be read as boxes. "
                "Declare it for the model or in the export's request."
            )
        return _Boxes(model.postprocessing)
    raise InvalidDataset("The task is not known. Set task_type of the dataset, or schema.task.")


class _Classes:
    def __init__(self, model: ModelFacts) -> None:
        self._known = next(iter(model.labels.values()), None)
        self._names = model.classes
        # A label that is a number, not a position → its position among the names
        self._positions: dict[int, int] | None = None
        if model.classes and numbered(model.classes):
            self._positions = {int(name): place for place, name in enumerate(model.classes)}
        self._single = _SingleScore()
        self._columns_are_ids: bool | None = None

    def decode(self, outputs: Arrays, batch: Batch) -> npt.NDArray[np.generic]:
        rows = len(batch)
        if self._known is not None and self._known.scores in outputs:
            return outputs[self._known.scores][:rows]
        found = list(outputs.values())
        called = next((one for one in found if one.dtype.kind in "iu" and one.ndim == 1), None)
        scores = self._scores([one for one in found if one.dtype.kind == "f" and one.ndim in (1, 2)])
        if called is not None and self._positions is not None:
            called = np.array([self._positions.get(number, -1) for number in called.tolist()], np.int64)
        if called is not None and (scores is None or not self._are_of(scores, called)):
            return called[:rows]
        if scores is None:
            raise _no_output(outputs, "scores of classes, [rows, classes]")
        if scores.ndim == 2 and scores.shape[1] > 1:
            return scores[:rows]
        return self._single.classes(scores.reshape(-1)[:rows])

    def _scores(self, found: list[npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
        """Return the first output with a column for each class, or else the first; None if there is none."""
        count = len(self._names or ())
        return next(
            (one for one in found if one.ndim == 2 and one.shape[1] == count), next(iter(found), None)
        )

    def _are_of(self, scores: npt.NDArray[Any], called: npt.NDArray[Any]) -> bool:
        """Return whether the best column is the label in the first batch: then columns are class ids."""
        if self._columns_are_ids is None:
            self._columns_are_ids = bool(scores.ndim == 2 and (scores.argmax(axis=1) == called).all())
        return self._columns_are_ids

    def labels(self, batch: Batch) -> npt.NDArray[np.int64]:
        labels: npt.NDArray[np.int64] = batch.labels
        if self._names or self._known is None:  # positions among the names, which are the columns
            return labels
        columns = {label: column for column, label in enumerate(self._known.classes)}
        unknown = sorted(set(labels.tolist()) - set(columns))
        if unknown:
            raise InvalidDataset(
                f"The dataset has the class {unknown[0]}, which is not among the model's: "
                f"{', '.join(map(str, list(columns)[:10]))}."
            )
        return np.array([columns[label] for label in labels.tolist()], np.int64)

    def changes(self, original: Any, artefact: Any) -> npt.NDArray[np.float64]:
        """Return the relative difference of the scores, and 1 more where the class differs."""
        if original.ndim == 1:
            return np.asarray(original != artefact, np.float64)
        first, second = original.astype(np.float64), artefact.astype(np.float64)
        scale = np.maximum(np.abs(first).max(axis=1), 1e-12)
        differ = first.argmax(axis=1) != second.argmax(axis=1)
        return _numbers(differ + np.minimum(np.abs(first - second).max(axis=1) / scale, 1.0))

    def shown(self, predictions: Any, row: int) -> Any:
        one = predictions[row]
        if np.ndim(one) == 0:
            return {"class": self._name(int(one)), "class_id": self._id(int(one))}
        best = int(np.argmax(one))
        return {"class": self._name(best), "class_id": self._id(best), "score": _finite(one[best])}

    def _id(self, column: int) -> int:
        if self._known is not None and 0 <= column < len(self._known.classes):
            return self._known.classes[column]
        return column

    def _name(self, column: int) -> str:
        number = self._id(column)
        return self._names[number] if self._names and 0 <= number < len(self._names) else str(number)


class _Numbers:
    def decode(self, outputs: Arrays, batch: Batch) -> npt.NDArray[np.float64]:
        rows = len(batch)
        for array in outputs.values():
            if array.dtype.kind == "f" and array.ndim and len(array) >= rows:
                return array[:rows].astype(np.float64).reshape(rows, -1)
        raise _no_output(outputs, "numbers for each row")

    def labels(self, batch: Batch) -> Any:
        return batch.labels

    def changes(self, original: Any, artefact: Any) -> npt.NDArray[np.float64]:
        return _numbers(np.abs(original - artefact).reshape(len(original), -1).max(axis=1, initial=0.0))

    def shown(self, predictions: Any, row: int) -> Any:
        return [_finite(number) for number in np.ravel(predictions[row])[:10]]


class _Reconstruction(_Numbers):
    """``_name``: the input that the first outputs have the shape of."""

    def __init__(self) -> None:
        self._name: str | None = None

    def decode(self, outputs: Arrays, batch: Batch) -> npt.NDArray[np.float64]:
        for name, given in batch.inputs.items():
            if self._name not in (None, name) or given.dtype.kind not in "fiu":
                continue
            for array in outputs.values():
                if array.dtype.kind == "f" and array.shape == given.shape:
                    self._name = name
                    return array[: len(batch)].astype(np.float64)
        raise _no_output(outputs, "the shape of an input")

    def labels(self, batch: Batch) -> Any:
        name = next(iter(batch.inputs)) if self._name is None else self._name
        return batch.inputs[name][: len(batch)].astype(np.float64)


class _Masks:
    def __init__(self) -> None:
        self._single = _SingleScore()

    def decode(self, outputs: Arrays, batch: Batch) -> npt.NDArray[np.int64]:
        rows = len(batch)
        for array in outputs.values():
            if array.dtype.kind == "f" and array.ndim == 4 and array.shape[1] > 1:
                return np.asarray(array[:rows].argmax(axis=1), np.int64)
            if array.dtype.kind == "f" and array.ndim == 4:
                return self._single.classes(array[:rows, 0])
            if array.dtype.kind in "iub" and array.ndim == 3:
                return array[:rows].astype(np.int64)
        raise _no_output(outputs, "masks, [rows, classes, height, width] or [rows, height, width]")

    def labels(self, batch: Batch) -> Any:
        return batch.labels

    def changes(self, original: Any, artefact: Any) -> npt.NDArray[np.float64]:
        return np.asarray((original != artefact).reshape(len(original), -1).mean(axis=1))

    def shown(self, predictions: Any, row: int) -> Any:
        classes, counts = np.unique(predictions[row], return_counts=True)
        pairs = zip(classes.tolist()[:20], counts.tolist()[:20], strict=True)
        return {"pixels": {str(name): count for name, count in pairs}}


class _Boxes:
    def __init__(self, declared: Mapping[str, Any]) -> None:
        nms = declared["nms"]
        self._declared = {
            **declared,
            "nms": {
                **nms,
                "confidence_threshold": min(nms["confidence_threshold"], _CONFIDENCE),
                "max_detections": max(nms["max_detections"], _DETECTIONS),
            },
            "output_format": {"bbox_format": "xyxy", "coordinates": "absolute"},
        }

    def decode(self, outputs: Arrays, batch: Batch) -> list[Found]:
        if batch.geometries is None:
            raise InvalidDataset("The dataset of a detector needs images, whose boxes are in pixels.")
        first: npt.NDArray[Any] = next(iter(outputs.values()))
        try:
            found = detect.detect(first[: len(batch)], batch.geometries, self._declared, None)
        except ValueError as exc:
            raise InvalidDataset(f"The model's output is not that of its postprocessing: {exc}") from exc
        return [
            Found(
                np.array([box["bbox"] for box in boxes], np.float64).reshape(-1, 4),
                np.array([box["confidence"] for box in boxes], np.float64),
                np.array([box["class_id"] for box in boxes], np.int64),
            )
            for boxes in found
        ]

    def labels(self, batch: Batch) -> Any:
        return batch.labels

    def changes(self, original: Any, artefact: Any) -> npt.NDArray[np.float64]:
        """Return how far the boxes of each picture moved; see ``_moved``."""
        pairs = zip(original, artefact, strict=True)
        return np.array([_moved(one, other) + _moved(other, one) for one, other in pairs])

    def shown(self, predictions: Any, row: int) -> Any:
        one = predictions[row]
        if isinstance(one, Found):
            certain = one.scores >= _SHOWN_CONFIDENCE
            return {"boxes": int(certain.sum()), "classes": sorted(set(one.classes[certain].tolist()))[:20]}
        return {"boxes": len(one.boxes), "classes": sorted(set(one.classes.tolist()))[:20]}


def _moved(one: Found, other: Found) -> float:
    """Return the sum over certain boxes of score * (1 - IoU with the nearest box of the class)."""
    moved = 0.0
    for box, score, number in zip(one.boxes, one.scores, one.classes, strict=True):
        if score >= _SHOWN_CONFIDENCE:
            same = other.boxes[other.classes == number].astype(np.float32)
            moved += float(score) * (1 - float(detect.iou(box.astype(np.float32), same).max(initial=0)))
    return moved


class _SingleScore:
    """Two classes from one score: a probability if the first scores were from 0 to 1, otherwise a logit."""

    def __init__(self) -> None:
        self._threshold: float | None = None

    def classes(self, scores: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        if self._threshold is None:
            self._threshold = 0.5 if scores.min(initial=0) >= 0 and scores.max(initial=1) <= 1 else 0.0
        return np.asarray(scores > self._threshold, np.int64)


def _numbers(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(np.nan_to_num(values), np.float64)


def _finite(number: Any) -> float | None:
    """Return a number as JSON has it: NaN and infinity are null."""
    return float(number) if np.isfinite(number) else None


def _no_output(outputs: Arrays, wanted: str) -> InvalidDataset:
    found = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in outputs.items())
    return InvalidDataset(
        f"No output of the model is {wanted}: it has {found[:200]}. Set task_type of the dataset, or "
        "schema.task."
    )
