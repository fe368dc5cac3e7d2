"""Describe a dataset without a model: its columns, its label, and its first rows. Every row is read once."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import InvalidDataset
from ..processing.image import MAX_PIXELS
from . import open_reader, schema
from .base import label_of, rows_of
from .images import displayed_size
from .labels import ClassLabels
from .reader import BOXES, IMAGE, Column, Reader, Truth
from .schema import CLASSIFICATION, DatasetFile

_ROWS = 10
_COLUMNS = 50  # whose values are shown
_NUMBERS = 16  # of an array that is shown
_TEXT = 100
_LISTED = 1000  # classes or columns


def inspect(file: DatasetFile) -> dict[str, Any]:
    """Return the description as JSON.

    ``inputs`` are all arrays or columns besides the label, as ``{"name", "dtype", "shape"}`` with the number
    of rows first; ``label`` is one like them, or null. ``class_counts`` is null unless the labels are classes
    or boxes. ``warnings`` are sentences.

    Raises:
        InvalidDataset: the file cannot be read, or has no rows.
        UnsupportedOption: an invalid schema, or a format that no loader reads.
    """
    reader = open_reader(file)
    label = label_of(reader, schema.check(file.schema))
    names = [name for name in reader.columns if name != label]
    size = rows_of(reader, [label] if label else names[:1])
    kind = reader.columns[label].kind if label else None
    task = schema.task_of(file.schema, file.task_type, label_kind=kind)
    seen = _Seen(reader, size)
    for group in _groups(reader, names, label):
        seen.read(group)
    classes, counts = _classes(reader, label, task, file, seen)
    return {
        "format": file.format,
        "task": task,
        "num_samples": size,
        "inputs": [_tensor(name, reader.columns[name], reader.lengths[name]) for name in names[:_LISTED]],
        "label": _tensor(label, reader.columns[label], size) if label else None,
        "classes": classes[:_LISTED] if classes else None,
        "class_counts": counts,
        "first_rows": seen.first_rows,
        "warnings": [*schema.warnings(file.schema), *_warnings(reader, label, counts, size, seen)],
    }


def _tensor(name: str, column: Column, rows: int) -> dict[str, Any]:
    dtype = column.dtype if isinstance(column.dtype, str) else str(column.dtype)
    if column.kind in "US":
        dtype = "string"
    return {"name": name, "dtype": "object" if column.kind == "O" else dtype, "shape": [rows, *column.shape]}


def _groups(reader: Reader, names: list[str], label: str | None) -> list[list[str]]:
    """Return columns that are read together: those of a table, otherwise those of the label's length."""
    wanted = [*names, *([label] if label else [])]
    readable = [name for name in wanted if reader.columns[name].kind != "O"]
    by_length: dict[int, list[str]] = {}
    for name in readable:
        by_length.setdefault(reader.lengths[name], []).append(name)
    return list(by_length.values())


class _Seen:
    """What one pass over the rows finds."""

    def __init__(self, reader: Reader, size: int) -> None:
        self._reader = reader
        self._size = size
        self.first_rows: list[dict[str, Any]] = [{} for _ in range(min(_ROWS, size))]
        self.missing: dict[str, int] = {}  # rows with NaN, infinity or no value
        self.boxes: dict[int, int] = {}  # class → its number

    def read(self, names: list[str]) -> None:
        for rows, piece in self._reader.pieces(names):
            for name, values in piece.items():
                self._look(name, values, int(rows[0]))
                if self._reader.lengths[name] == self._size and (
                    name in self.first_rows[0] or len(self.first_rows[0]) < _COLUMNS
                ):
                    for row in range(int(rows[0]), min(int(rows[-1]) + 1, len(self.first_rows))):
                        self.first_rows[row][name] = _shown(values[row - int(rows[0])])

    def _look(self, name: str, values: Any, first: int) -> None:
        kind = self._reader.columns[name].kind
        if kind == IMAGE:
            for place, picture in enumerate(values):
                _check_picture(picture, first + place)
        elif kind == BOXES:
            for truth in values:
                for number in truth.classes.tolist():
                    self.boxes[number] = self.boxes.get(number, 0) + 1
        else:
            bad = _missing(values)
            if bad:
                self.missing[name] = self.missing.get(name, 0) + bad


def _missing(values: Any) -> int:
    if values.dtype.kind == "f":
        return int((~np.isfinite(values)).reshape(len(values), -1).any(axis=1).sum())
    return int(sum(value is None for value in values)) if values.dtype.kind == "O" else 0


def _check_picture(picture: bytes, row: int) -> None:
    """Raises InvalidDataset: no image, or too many pixels."""
    try:
        width, height = displayed_size(picture)
    except ValueError as exc:
        raise InvalidDataset(f"Row {row} of the dataset: {exc}") from exc
    if width * height > MAX_PIXELS:
        raise InvalidDataset(f"Row {row} of the dataset is an image of more than {MAX_PIXELS:,} pixels.")


def _shown(value: Any) -> Any:
    """Return a value as short JSON."""
    if isinstance(value, Truth):
        return {"boxes": len(value.boxes), "classes": sorted(set(value.classes.tolist()))[:_NUMBERS]}
    if isinstance(value, bytes) and not isinstance(value, np.bytes_):
        width, height = displayed_size(value)
        return {"width": width, "height": height, "size_bytes": len(value)}
    if isinstance(value, np.ndarray) and value.size > _NUMBERS:
        return {
            "shape": list(value.shape),
            "first": [_scalar(one) for one in value.ravel()[:_NUMBERS].tolist()],
        }
    if isinstance(value, np.ndarray):
        return _nested(value.tolist())
    return _scalar(value.item() if isinstance(value, np.generic) else value)


def _nested(value: Any) -> Any:
    return [_nested(one) for one in value] if isinstance(value, list) else _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        return value if len(value) <= _TEXT else f"{value[:_TEXT]}…"
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _classes(
    reader: Reader, label: str | None, task: str | None, file: DatasetFile, seen: _Seen
) -> tuple[list[str] | None, dict[str, int] | None]:
    """Return the classes' names, and how many rows or boxes are of each class."""
    named = file.schema.get("classes") or (list(reader.classes) if reader.classes else None)
    if label is None:
        return named, None
    if reader.columns[label].kind == BOXES:
        counts = {_name(number, named): count for number, count in sorted(seen.boxes.items())}
        return named, counts
    if task != CLASSIFICATION or label in seen.missing:
        return named, None
    found = ClassLabels(reader, label, None, named)
    ids, numbers = np.unique(found.ids, return_counts=True)
    if len(ids) > _LISTED:
        return found.classes, None
    pairs = zip(ids.tolist(), numbers.tolist(), strict=True)
    return found.classes, {_name(number, found.classes): count for number, count in pairs}


def _name(number: int, classes: list[str] | None) -> str:
    return classes[number] if classes and 0 <= number < len(classes) else str(number)


def _warnings(
    reader: Reader, label: str | None, counts: Mapping[str, int] | None, size: int, seen: _Seen
) -> list[str]:
    found = [
        f"{name!r} has NaN, infinity or no value in {count:,} rows, which most models do not accept."
        for name, count in list(seen.missing.items())[:_COLUMNS]
    ]
    found += [
        f"{name!r} has {reader.lengths[name]:,} rows, but the label has {size:,}."
        for name in reader.columns
        if label is not None and reader.lengths[name] != size
    ]
    found += [
        f"The column {name!r} is neither numbers nor texts; no input can be made of it."
        for name, column in reader.columns.items()
        if column.kind == "O"
    ][:_COLUMNS]
    if len(reader.columns) > _LISTED:
        found.append(f"Only the first {_LISTED:,} of {len(reader.columns):,} columns are listed.")
    if label is None:
        found.append(f"The dataset has no label. {reader.unlabelled}")
    if counts is not None and len(counts) == 1:
        found.append("All rows are of one class.")
    return found
