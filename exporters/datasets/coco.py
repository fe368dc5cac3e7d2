"""Pictures in a zip with COCO annotations of boxes in a JSON file."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import InvalidDataset
from .archive import Archive
from .boxes import BoxReader, truth_of
from .images import Pictures
from .reader import Truth

_Entry = tuple[list[float], int, bool, float]
_MAX_JSON_BYTES = 128 << 20
_LARGEST = 1e9  # the largest coordinate, in pixels
_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "images": {"id": int | str, "file_name": str},
    "categories": {"id": int, "name": str},
    "annotations": {"image_id": int | str, "category_id": int, "bbox": list},
}


class CocoReader(BoxReader):
    """``classes``: the names of the categories, by id. Pictures that the JSON does not name are left out."""

    def __init__(self, archive: Archive, name: str) -> None:
        document = _document(archive.read(name, _MAX_JSON_BYTES), name)
        categories = sorted(document["categories"], key=lambda one: one["id"])
        positions = {one["id"]: place for place, one in enumerate(categories)}
        if len(positions) < len(categories):
            raise InvalidDataset(f"{name[:80]!r} has two categories with one id. Give each its own.")
        pictures = Pictures(archive)
        places = _places(document["images"], pictures.names)
        pictures.names = sorted(places.values())
        numbers = {file: number for number, file in enumerate(pictures.names)}
        self._annotations: list[list[_Entry]] = [[] for _ in pictures.names]
        for one in document["annotations"]:
            if one["image_id"] not in places or one["category_id"] not in positions:
                raise InvalidDataset(
                    f"{name[:80]!r} has an annotation of an unknown image or category: {str(one)[:120]}."
                )
            entry = _entry(one, positions[one["category_id"]], name)
            self._annotations[numbers[places[one["image_id"]]]].append(entry)
        super().__init__(pictures, [str(one["name"]) for one in categories])

    def truth(self, number: int, picture: bytes) -> Truth:
        found = self._annotations[number]
        corners = np.array([box for box, *_ in found], np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return truth_of(
            corners,
            [category for _, category, _, _ in found],
            [crowd for *_, crowd, _ in found],
            [area for *_, area in found],
        )


def open_file(path: Path, schema: Mapping[str, Any]) -> CocoReader:
    archive = Archive(path)
    name = schema["annotations"]
    found = [one for one in archive.names if one.endswith(".json") and "__MACOSX" not in one]
    if name is None and len(found) == 1:
        (name,) = found
    if name not in archive.names:
        raise InvalidDataset(
            "Name the JSON file of the annotations in schema.annotations. The archive has "
            f"{', '.join(map(repr, found[:10])) or 'no JSON file'}."
        )
    return CocoReader(archive, name)


def _document(data: bytes, name: str) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise InvalidDataset(f"{name[:80]!r} is not JSON: {str(exc)[:100]}.") from exc
    for key, fields in _FIELDS.items():
        entries = document.get(key) if isinstance(document, dict) else None
        if not isinstance(entries, list) or not all(
            isinstance(one, dict) and all(isinstance(one.get(field), kind) for field, kind in fields.items())
            for one in entries
        ):
            raise InvalidDataset(
                f"{name[:80]!r} has no list {key!r} whose entries have valid {', '.join(fields)}."
            )
    return dict(document)


def _places(images: list[dict[str, Any]], names: list[str]) -> dict[Any, str]:
    """Return image id → its file in the archive: the path that ends in its ``file_name``."""
    by_path: dict[str, str | None] = {}
    for name in names:
        parts = PurePosixPath(name).parts
        for start in range(len(parts)):
            end = "/".join(parts[start:])
            by_path[end] = name if end not in by_path or start == 0 else None  # None: ambiguous
    places: dict[Any, str] = {}
    ids: dict[str, Any] = {}
    for one in images:
        file = str(one["file_name"])
        found = by_path.get(file) or by_path.get(PurePosixPath(file).name)
        if found is None:
            raise InvalidDataset(
                f"The annotations name the image {file[:80]!r}, which the archive does not have."
            )
        if places.setdefault(one["id"], found) != found or ids.setdefault(found, one["id"]) != one["id"]:
            raise InvalidDataset(
                f"The annotations have more than one image with the id {str(one['id'])[:40]} or the file "
                f"{file[:80]!r}. Give each image one id."
            )
    return places


def _entry(one: Mapping[str, Any], category: int, name: str) -> _Entry:
    """Return box, category, crowd and area."""
    box = one["bbox"]
    if len(box) != 4 or not all(_is_within(_LARGEST, side) for side in box) or box[2] < 0 or box[3] < 0:
        raise InvalidDataset(f"{name[:80]!r} has a bbox that is not [x, y, width, height]: {str(box)[:80]}.")
    area = one.get("area")
    if not isinstance(area, int | float):
        area = box[2] * box[3]
    elif not _is_within(_LARGEST**2, area):
        raise InvalidDataset(f"{name[:80]!r} has an area that is no number of pixels: {str(area)[:80]}.")
    return box, category, bool(one.get("iscrowd")), float(area)


def _is_within(largest: float, value: Any) -> bool:
    """Return whether it is a number up to this. An integer of JSON may be too large for a float."""
    return isinstance(value, int | float) and -largest <= value <= largest
