"""The distinct names in a collection, read only from its index on ``name``."""

from typing import Any

from pymongo.collection import Collection

from model_service.storage.common.db import Document

_MOST = 1000


def names_near(collection: Collection[Document], name: str) -> list[str]:
    """Return up to 1,000 names; in a larger collection, also up to 1,000 from the name's first 2 letters on.

    Each name is one index key, so the cost does not grow with the number of documents.
    """
    names = _names_from(collection, "")
    return names if len(names) < _MOST else [*names, *_names_from(collection, name[:2])]


def _names_from(collection: Collection[Document], least: str) -> list[str]:
    pipeline: list[dict[str, Any]] = [
        {"$match": {"name": {"$gte": least}}},
        {"$sort": {"name": 1}},
        {"$group": {"_id": "$name"}},
        {"$limit": _MOST},
    ]
    return [row["_id"] for row in collection.aggregate(pipeline)]
