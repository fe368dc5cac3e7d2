"""Pictures in a zip with YOLO labels: ``images/a.jpg``, ``labels/a.txt``, and the names in ``data.yaml``.

A line of a label is ``class x y width height``, the centre and size as fractions of the picture, or
``class x1 y1 x2 y2 …``, a polygon. A picture without a label file has no objects.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidDataset
from .archive import Archive
from .boxes import BoxReader, truth_of
from .images import Pictures, displayed_size
from .labels import MAX_ID
from .reader import Truth

_MAX_TEXT_BYTES = 4 << 20


class YoloReader(BoxReader):
    """``classes``: those of ``data.yaml``, otherwise of the schema."""

    def __init__(self, archive: Archive, classes: Sequence[str] | None) -> None:
        self._archive = archive
        self._files = set(archive.names)
        super().__init__(Pictures(archive), _names(archive) or classes)
        if not any(_label_file(name) in self._files for name in self._pictures.names):
            raise InvalidDataset(
                "No image has a label: images/a.jpg needs labels/a.txt. Is it a dataset of another format?"
            )

    def truth(self, number: int, picture: bytes) -> Truth:
        name = _label_file(self._pictures.names[number])
        if name not in self._files:
            return truth_of(np.empty((0, 4)), [])
        lines = self._archive.read(name, _MAX_TEXT_BYTES).decode("utf-8", errors="replace").splitlines()
        objects = [self._object(line, name) for line in lines if line.strip()]
        try:
            size = np.array(displayed_size(picture) * 2, np.float64)
        except ValueError as exc:
            raise InvalidDataset(f"{self._pictures.names[number][:80]!r}: {exc}") from exc
        corners = np.array([box for _, box in objects], np.float64).reshape(-1, 4) * size
        return truth_of(corners, [category for category, _ in objects])

    def _object(self, line: str, name: str) -> tuple[int, npt.NDArray[np.float64]]:
        try:
            category, *rest = (float(word) for word in line.split())
            numbers = np.array(rest)
            known = len(self.classes) if self.classes else MAX_ID
            if category != int(category) or not 0 <= category < known or len(rest) < 4 or len(rest) % 2:
                raise ValueError
            if not np.isfinite(numbers).all() or np.abs(numbers).max() > 10:  # fractions, with some tolerance
                raise ValueError
        except (ValueError, OverflowError):
            raise InvalidDataset(
                f"{name[:80]!r} has the line {line[:80]!r}, which is no class with fractions of the picture."
            ) from None
        if len(rest) == 4:
            return int(category), np.concatenate(
                [numbers[:2] - numbers[2:] / 2, numbers[:2] + numbers[2:] / 2]
            )
        points = numbers.reshape(-1, 2)
        return int(category), np.concatenate([points.min(axis=0), points.max(axis=0)])


def open_file(path: Path, schema: Mapping[str, Any]) -> YoloReader:
    return YoloReader(Archive(path), schema["classes"])


def _label_file(picture: str) -> str:
    """Return the label of a picture: its last folder ``images`` is ``labels``, or the file beside it."""
    path = PurePosixPath(picture).with_suffix(".txt")
    parts = list(path.parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return "/".join(parts)


def _names(archive: Archive) -> list[str] | None:
    import yaml  # type: ignore[import-untyped]

    files = [name for name in archive.names if PurePosixPath(name).name in ("data.yaml", "data.yml")]
    if not files:
        return None
    try:
        document = yaml.safe_load(archive.read(files[0], _MAX_TEXT_BYTES))
        names = document["names"]
        if isinstance(names, dict):
            names = [names[number] for number in range(len(names))]
        # ValueError: a date that does not exist, or an integer of too many digits
        texts = [str(name) if isinstance(name, int) else name for name in names]
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as exc:
        raise InvalidDataset(
            f"{files[0][:80]!r} has no names of classes: names is a list, or an object from 0 on."
        ) from exc
    if not isinstance(names, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidDataset(f"{files[0][:80]!r} has names that are no texts.")
    return texts
