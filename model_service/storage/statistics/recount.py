"""Recount of the counters' values from the models and blobs themselves."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pymongo.collection import Collection

from model_service.storage.common.db import Database, Document, Session

# Documents in one aggregation: few enough to finish well within the driver's timeout.
BATCH = 100_000

Key = tuple[str, str, str]  # namespace, algorithm, status
Counts = dict[Key, dict[str, int]]
# The group of all blobs. It cannot be a group of models, whose algorithm is never empty.
BLOBS: Key = ("", "", "")

_SUM_OF_MODELS: Document = {
    "_id": {
        "namespace": {"$ifNull": ["$namespace", ""]},
        "algorithm": "$algorithm",
        "status": "$status",
        "day": {"$dateToString": {"date": "$created_at", "format": "%Y%m%d"}},
    },
    "models": {"$sum": 1},
    "bytes": {"$sum": {"$sum": "$files.size_bytes"}},
}
_SUM_OF_BLOBS: Document = {"_id": None, "blobs": {"$sum": 1}, "bytes": {"$sum": "$length"}}
_DOWNLOADS: Document = {
    "_id": {"$ifNull": ["$namespace", ""]},
    "downloads": {"$sum": "$download_count"},
}


def recount(database: Database, *, created_since: str, session: Session) -> Counts:
    """Return the sums over all models and blobs; creations by day since ``created_since`` (``YYYYMMDD``)."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    for row in _sums(database.models, _SUM_OF_MODELS, session):
        group = row["_id"]
        total = counts[group["namespace"], group["algorithm"], group["status"]]
        total["models"] += row["models"]
        total["bytes"] += row["bytes"]
        if group["day"] >= created_since:
            total[f"created.{group['day']}"] += row["models"]
    for row in _sums(database.files, _SUM_OF_BLOBS, session):
        counts[BLOBS]["blobs"] += row["blobs"]
        counts[BLOBS]["bytes"] += row["bytes"]
    return counts


def downloads_of_models(database: Database, session: Session) -> dict[str, int]:
    """Return the sum of ``download_count`` in each namespace."""
    downloads: dict[str, int] = defaultdict(int)
    for row in _sums(database.models, _DOWNLOADS, session):
        downloads[row["_id"]] += row["downloads"]
    return downloads


def _sums(collection: Collection[Document], group: Document, session: Session) -> Iterator[Document]:
    """Yield the groups of one batch of documents after the other, in the order of their ids."""
    after: Any = {}
    while True:
        pipeline: list[Document] = [
            {"$match": after},
            {"$sort": {"_id": 1}},
            {"$limit": BATCH},
            {"$group": {**group, "last": {"$max": "$_id"}}},
        ]
        rows = list(collection.aggregate(pipeline, session=session))
        if not rows:
            return
        yield from rows
        after = {"_id": {"$gt": max(row["last"] for row in rows)}}
