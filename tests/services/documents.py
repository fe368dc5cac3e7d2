"""Stored documents, made without the service that makes them."""

from typing import Any

from bson import ObjectId

from model_service.storage.common.db import now
from tests.factories import model_fields


def model_document(**fields: Any) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        **model_fields(),
        "version": "v1.0",
        "version_order": 1_000_000,
        "files": [],
        "file_metadata": None,
        "size_bytes": 0,
        "download_count": 0,
        "created_at": now(),
        "updated_at": now(),
        "revision": 1,
        "namespace": "",
        "terms": [],
        "metric_order": {},
        **fields,
    }
