"""A dataset as a model sees it: batches of its inputs, with labels."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..base import Arrays
from ..errors import InvalidDataset
from . import schema as schemas
from .fit import Fitter, Needs
from .labels import ClassLabels, numbers, positions
from .reader import BOXES, MAX_ROWS, Piece, Reader
from .schema import CLASSIFICATION, DETECTION, RECONSTRUCTION, REGRESSION, SEGMENTATION, DatasetFile


@dataclass(frozen=True)
class Batch:
    """``rows``: their numbers in the file. ``labels``, by the dataset's task:

    classification int64[n]; regression float64[n, values]; segmentation int64[n, height, width]; detection a
    list of Truth; None for reconstruction and without labels. ``geometries``: of images that were scaled.

    A model with a fixed batch gets ``inputs`` of that size; rows beyond ``len(batch)`` repeat the last one.
    """

    rows: npt.NDArray[np.int64]
    inputs: Arrays
    labels: Any
    geometries: list[Any] | None = None

    @property
    def first(self) -> int:
        return int(self.rows[0])

    def __len__(self) -> int:
        return len(self.rows)


class Dataset:
    """A file's rows as inputs of a model. ``classes``: the names of the label's classes, if known.

    ``size``: the number of rows. ``task``: one of ``schema.TASKS``; None if nothing says it.
    """

    def __init__(self, file: DatasetFile, reader: Reader, needs: Needs) -> None:
        self.file = file
        self._reader = reader
        declared = schemas.check(file.schema)
        label = label_of(reader, declared)
        rows_of(reader, [label] if label else list(reader.lengths)[:1])
        self._fitter = Fitter(reader.columns, declared["inputs"], label, needs, reader.is_table)
        self.task = _task(reader, label, file, needs)
        if self.task == RECONSTRUCTION:
            label = None
        elif label is None and needs.labelled:
            raise InvalidDataset(
                f"The dataset has no label, only {', '.join(map(repr, sorted(reader.columns)))[:200]}. "
                f"{reader.unlabelled}"
            )
        self._label = label
        self.size = rows_of(reader, [*self._fitter.columns, *([label] if label else [])])
        self.classes = list(needs.classes or declared["classes"] or reader.classes or ()) or None
        self._ids: npt.NDArray[np.int32] | None = None
        self._of_boxes: npt.NDArray[np.int64] | None = None
        if label is not None and self.task == DETECTION:
            self._of_boxes = positions(reader.classes, needs.classes)
        if label is not None and self.task == CLASSIFICATION:
            found = ClassLabels(reader, label, needs.classes, declared["classes"] or reader.classes)
            self._ids, self.classes = found.ids, found.classes
            if len(np.unique(self._ids)) < 2:
                raise InvalidDataset(
                    f"All {self.size} rows of the dataset are of one class. Take rows of several classes."
                )

    @property
    def fixed_rows(self) -> int | None:
        """The model's batch; None: any."""
        return self._fitter.fixed_rows

    @property
    def row_bytes(self) -> int:
        """Return the bytes of a row of the inputs; axes of any size count as 1."""
        return self._fitter.row_bytes

    def describe(self) -> dict[str, Any]:
        """Return the file's description with task and number of rows, as JSON."""
        return {**self.file.describe(), "task": self.task, "num_samples": self.size}

    def batches(self, rows: int, at_most: int | None = None, seed: int = 0) -> Iterator[Batch]:
        """Yield all rows in batches of ``rows``, or of the model's fixed size; the last one is smaller.

        Args:
            at_most: only so many rows: the same ones for the same seed, with the classes in proportion.

        Raises:
            InvalidDataset: a row that does not fit the model, or a damaged file.
        """
        chosen = None if at_most is None or at_most >= self.size else self._choose(at_most, seed)
        names = list(self._fitter.columns)
        if self._label is not None and self._ids is None and self._label not in names:
            names.append(self._label)
        size = self._fitter.fixed_rows or rows
        held: Piece = np.empty(0, np.int64), {}
        for piece in self._reader.pieces(names, chosen):
            held = _joined(held, piece)
            while len(held[0]) >= size:
                yield self._batch(_part(held, 0, size))
                held = _part(held, size, len(held[0]))
        if len(held[0]):
            yield self._batch(held)

    def _batch(self, piece: Piece) -> Batch:
        rows, columns = piece
        inputs, geometries = self._fitter.fit(rows, columns)
        if self._fitter.fixed_rows is not None:
            repeats = np.minimum(np.arange(self._fitter.fixed_rows), len(rows) - 1)
            inputs = {name: array[repeats] for name, array in inputs.items()}
        labels: Any = None
        if self._ids is not None:
            labels = self._ids[rows].astype(np.int64)
        elif self._label is not None:
            labels = columns[self._label]
            if self.task == REGRESSION:
                labels = numbers(self._label, labels).reshape(len(rows), -1)
            elif self.task == SEGMENTATION:
                labels = labels.astype(np.int64)
            elif self._of_boxes is not None:
                labels = [replace(one, classes=self._of_boxes[one.classes]) for one in labels]
        return Batch(rows, inputs, labels, geometries)

    def _choose(self, at_most: int, seed: int) -> npt.NDArray[np.int64]:
        """Return ascending row numbers: of each class its share, and at least one if there are enough."""
        if at_most < 1:
            raise InvalidDataset("The number of samples must be at least 1.")
        random = np.random.default_rng(seed)
        if self._ids is None:
            return np.sort(random.choice(self.size, at_most, replace=False)).astype(np.int64)
        classes, counts = np.unique(self._ids, return_counts=True)
        least = np.ones_like(counts) if at_most >= len(classes) else np.zeros_like(counts)
        shares = (counts - least) * ((at_most - least.sum()) / max(1, (counts - least).sum()))
        taken = least + np.floor(shares).astype(counts.dtype)
        largest = np.argsort(np.floor(shares) - shares, kind="stable")
        taken[largest[: at_most - taken.sum()]] += 1
        parts = [
            random.choice(np.flatnonzero(self._ids == one), count, replace=False)
            for one, count in zip(classes, taken, strict=True)
            if count
        ]
        return np.sort(np.concatenate(parts)).astype(np.int64)


def label_of(reader: Reader, declared: Mapping[str, Any]) -> str | None:
    """Return the label's column: the schema's, or one with a usual name.

    Raises:
        InvalidDataset: the schema's does not exist.
    """
    label: str | None = declared["label"]
    if label is None:
        return next((name for name in schemas.LABEL_NAMES if name in reader.columns), None)
    if label not in reader.columns:
        raise InvalidDataset(
            f"schema.label is {label!r}, but the dataset has only "
            f"{', '.join(map(repr, sorted(reader.columns)))[:200]}."
        )
    return label


def rows_of(reader: Reader, names: Iterable[str]) -> int:
    """Return the number of rows. Raises InvalidDataset: none, too many, or columns of different lengths."""
    lengths = {name: reader.lengths[name] for name in names}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name!r} has {rows}" for name, rows in lengths.items())
        raise InvalidDataset(f"The arrays of the dataset have different numbers of rows: {found[:200]}.")
    size = next(iter(lengths.values()), 0)
    if not size:
        raise InvalidDataset("The dataset has no rows. Upload a file with at least one row.")
    if size > MAX_ROWS:
        raise InvalidDataset(f"The dataset has {size:,} rows, more than {MAX_ROWS:,}. Split it.")
    return size


def _task(reader: Reader, label: str | None, file: DatasetFile, needs: Needs) -> str | None:
    column = reader.columns[label] if label is not None else None
    kind = column.kind if column is not None else ""
    task = schemas.task_of(file.schema, file.task_type, needs.task_type, label_kind=kind or None)
    if (kind == BOXES) != (task == DETECTION) and column is not None:
        raise InvalidDataset(
            f"The task is {task}, but the dataset's labels are {'boxes' if kind == BOXES else 'no boxes'}. "
            "Set schema.task of the dataset."
        )
    if task == SEGMENTATION and column is not None and (kind not in "iub" or len(column.shape) != 2):
        raise InvalidDataset(
            f"The label {label!r} of a segmentation must be integers with the shape [rows, height, width]."
        )
    return task


def _joined(first: Piece, second: Piece) -> Piece:
    if not len(first[0]):
        return second
    columns = {
        name: [*values, *second[1][name]]
        if isinstance(values, list)
        else np.concatenate([values, second[1][name]])
        for name, values in first[1].items()
    }
    return np.concatenate([first[0], second[0]]), columns


def _part(piece: Piece, start: int, stop: int) -> Piece:
    return piece[0][start:stop], {name: values[start:stop] for name, values in piece[1].items()}
