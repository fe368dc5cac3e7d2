"""The documents of datasets."""

from datetime import datetime
from typing import cast

from model_service.storage.common.documents import Fields, FileHolder, JSONObject


class Dataset(FileHolder):
    purpose: str | None
    format: str | None
    num_samples: int | None
    schema: JSONObject
    statistics: JSONObject
    source: str | None
    license: str | None


def new_dataset(fields: Fields, namespace: str, at: datetime) -> Dataset:
    """Return a new version without files. ``fields``: those of the request, the ``_id`` and the version."""
    document = {
        **fields,
        "files": [],
        "file_metadata": None,
        "size_bytes": 0,
        "created_at": at,
        "updated_at": at,
        "namespace": namespace,
        "revision": 1,
    }
    return cast(Dataset, document)
