"""Differences between two models, key by key; nested keys are dotted paths."""

import math
from collections.abc import Callable, Iterator
from typing import TypeGuard

from model_service.actor import may_read
from model_service.services.models.models import ModelService
from model_service.storage.common.documents import Fields
from model_service.storage.models.documents import Model

# Fields that are compared as a whole. Fields that always differ (id, number, times) are left out.
_FIELDS = (
    *("name", "algorithm", "framework", "task_type", "status", "description", "created_by"),
    *("aliases", "parent_model_id", "training_job_id", "dataset_ids"),
)


class ComparisonService:
    def __init__(self, models: ModelService) -> None:
        self._models = models

    def compare(self, reference: str, other: str) -> Fields:
        """Return what was added, removed and changed from the first model to the second.

        Raises:
            MalformedId, NotFound.
        """
        before, after = self._models.get(reference), self._models.get(other)
        return {
            "from": before,
            "to": after,
            "fields": difference(_fields(before), _fields(after), flat=True),
            "metrics": difference(before["metrics"], after["metrics"], _numeric_change),
            "hyperparameters": difference(before["hyperparameters"], after["hyperparameters"]),
            "tags": _tags(before["tags"], after["tags"]),
            "files": difference(_files(before), _files(after), flat=True),
            "dataset_info": difference(_dataset_info(before), _dataset_info(after)),
            "evaluations": difference(_evaluated(before), _evaluated(after), _numeric_change),
            "signature": difference(_signature(before), _signature(after)),
        }


def _plain_change(before: object, after: object) -> dict[str, object]:
    return {"from": before, "to": after}


def _numeric_change(before: object, after: object) -> dict[str, object]:
    """Add ``delta`` if both values are finite numbers, and ``relative_delta`` if the first is not 0."""
    change = _plain_change(before, after)
    if _is_finite(before) and _is_finite(after):
        change["delta"] = after - before
        if before:
            change["relative_delta"] = (after - before) / abs(before)
    return change


def _is_finite(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def difference(
    before: Fields,
    after: Fields,
    change: Callable[[object, object], Fields] = _plain_change,
    *,
    flat: bool = False,
) -> Fields:
    """Return ``{added: {key: value}, removed: {key: value}, changed: {key: {from, to}}}``.

    Args:
        flat: use the keys unchanged, including dots; the values are not objects.
    """
    old, new = (value if flat else dict(_flatten(value)) for value in (before, after))
    return {
        "added": {key: value for key, value in new.items() if key not in old},
        "removed": {key: value for key, value in old.items() if key not in new},
        "changed": {
            key: change(value, new[key])
            for key, value in old.items()
            # In Python True == 1, but the JSON values differ.
            if key in new and (value != new[key] or isinstance(value, bool) != isinstance(new[key], bool))
        },
    }


def _flatten(value: Fields, path: str = "") -> Iterator[tuple[str, object]]:
    for key, inner in value.items():
        here = f"{path}.{key}" if path else key
        if isinstance(inner, dict) and inner:
            yield from _flatten(inner, here)
        else:
            yield here, inner


def _fields(model: Model) -> Fields:
    """Return the compared fields that have a value. Ids are strings, as in responses."""
    values: Fields = model
    found = {field: values.get(field) for field in _FIELDS}
    if found["parent_model_id"] is not None:
        found["parent_model_id"] = str(found["parent_model_id"])
    found["dataset_ids"] = [str(dataset_id) for dataset_id in model.get("dataset_ids") or ()]
    return {field: value for field, value in found.items() if value not in (None, [], "")}


def _dataset_info(model: Model) -> Fields:
    """Return the dataset info without the features, which are compared as part of the signature."""
    return {key: value for key, value in model["dataset_info"].items() if key != "features"}


def _tags(before: list[str], after: list[str]) -> Fields:
    return {
        "added": [tag for tag in after if tag not in before],
        "removed": [tag for tag in before if tag not in after],
    }


def _files(model: Model) -> Fields:
    return {file["path"]: file["checksum"] for file in model["files"]}


def _evaluated(model: Model) -> Fields:
    """Return the metrics of the last evaluations, of dataset versions that the caller may read."""
    return {
        f"{shown['dataset_name']}/{shown['dataset_version']}": shown["metrics"]
        for shown in model.get("evaluations", ())
        if may_read(shown["dataset_name"])
    }


def _signature(model: Model) -> Fields:
    """Return the model's inputs and outputs: its ``signature``, and the features of its data."""
    features = model["dataset_info"].get("features")
    return (model.get("signature") or {}) | ({} if features is None else {"features": features})
