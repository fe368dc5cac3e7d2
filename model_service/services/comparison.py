"""What differs between two models: key by key, nested ones by their dotted paths."""

from collections.abc import Callable, Iterator
from typing import Any

from model_service.services.models import ModelService
from model_service.storage.db import Document


class ComparisonService:
    def __init__(self, models: ModelService) -> None:
        self._models = models

    def compare(self, reference: str, other: str) -> Document:
        """From the first to the second: what was added, removed and changed.

        Raises:
            MalformedId, NotFound.
        """
        before, after = self._models.get(reference), self._models.get(other)
        return {
            "from": before,
            "to": after,
            "metrics": difference(before["metrics"], after["metrics"], _numeric_change),
            "hyperparameters": difference(before["hyperparameters"], after["hyperparameters"]),
            "tags": _tags(before["tags"], after["tags"]),
            "files": difference(_files(before), _files(after), flat=True),
            "signature": difference(_signature(before), _signature(after)),
        }


def _plain_change(before: Any, after: Any) -> Document:
    return {"from": before, "to": after}


def _numeric_change(before: Any, after: Any) -> Document:
    """With the difference where both are numbers."""
    change = _plain_change(before, after)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in (before, after)):
        change["delta"] = after - before
    return change


def difference(
    before: Document,
    after: Document,
    change: Callable[[Any, Any], Document] = _plain_change,
    *,
    flat: bool = False,
) -> Document:
    """``{added: {key: value}, removed: {key: value}, changed: {key: {from, to}}}``.

    Args:
        flat: take the keys as they are, dots and all; their values are no objects.
    """
    old, new = (value if flat else dict(_flatten(value)) for value in (before, after))
    return {
        "added": {key: value for key, value in new.items() if key not in old},
        "removed": {key: value for key, value in old.items() if key not in new},
        "changed": {
            key: change(value, new[key])
            for key, value in old.items()
            # True == 1 in Python, and a reader sees the difference.
            if key in new and (value != new[key] or isinstance(value, bool) != isinstance(new[key], bool))
        },
    }


def _flatten(value: Document, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        if isinstance(inner, dict) and inner:
            yield from _flatten(inner, here)
        else:
            yield here, inner


def _tags(before: list[str], after: list[str]) -> Document:
    return {
        "added": [tag for tag in after if tag not in before],
        "removed": [tag for tag in before if tag not in after],
    }


def _files(model: Document) -> Document:
    return {file["path"]: file["checksum"] for file in model["files"]}


def _signature(model: Document) -> Document:
    """What it takes and gives: its ``signature``, and the features its data has."""
    features = model["dataset_info"].get("features")
    return (model.get("signature") or {}) | ({} if features is None else {"features": features})
