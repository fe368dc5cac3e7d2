"""The distinct names in a collection, read only from its index on ``name``."""

from pymongo.collection import Collection
from typing_extensions import TypedDict

from model_service.storage.common.collections import rows
from model_service.storage.common.documents import D, Pipeline

_MOST = 1000


class _Name(TypedDict):
    _id: str


def names_near(collection: Collection[D], name: str) -> list[str]:
    """Return up to 1,000 names; in a larger collection, also up to 1,000 from the name's first 2 letters on.

    Each name is one index key, so the cost does not grow with the number of documents.
    """
    names = _names_from(collection, "")
    return names if len(names) < _MOST else [*names, *_names_from(collection, name[:2])]


def _names_from(collection: Collection[D], least: str) -> list[str]:
    pipeline: Pipeline = [
        {"$match": {"name": {"$gte": least}}},
        {"$sort": {"name": 1}},
        {"$group": {"_id": "$name"}},
        {"$limit": _MOST},
    ]
    return [row["_id"] for row in rows(collection.aggregate(pipeline), _Name)]
