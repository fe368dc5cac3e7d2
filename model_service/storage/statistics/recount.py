"""Recount of the counters' values from the models and blobs themselves."""

from collections import defaultdict
from collections.abc import Iterator
from typing import TypeVar

from pymongo.collection import Collection
from typing_extensions import TypedDict

from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import D, Fields, StoredId

# Documents in one aggregation: few enough to finish well within the driver's timeout.
BATCH = 100_000

Key = tuple[str, str, str]  # namespace, algorithm, status
Counts = dict[Key, dict[str, int]]
# The group of all blobs. It cannot be a group of models, whose algorithm is never empty.
BLOBS: Key = ("", "", "")


class _Row(TypedDict):
    """A group; ``last`` is the highest id of its documents."""

    last: StoredId


class _ModelGroup(TypedDict):
    namespace: str
    algorithm: str
    status: str
    day: str


class _Models(_Row):
    _id: _ModelGroup
    models: int
    bytes: int


class _Blobs(_Row):
    _id: None
    blobs: int
    bytes: int


class _Downloads(_Row):
    _id: str
    downloads: int


R = TypeVar("R", bound=_Row)

_SUM_OF_MODELS: Fields = {
    "_id": {
        "namespace": {"$ifNull": ["$namespace", ""]},
        "algorithm": "$algorithm",
        "status": "$status",
        "day": {"$dateToString": {"date": "$created_at", "format": "%Y%m%d"}},
    },
    "models": {"$sum": 1},
    "bytes": {"$sum": {"$sum": "$files.size_bytes"}},
}
_SUM_OF_BLOBS: Fields = {"_id": None, "blobs": {"$sum": 1}, "bytes": {"$sum": "$length"}}
_DOWNLOADS: Fields = {
    "_id": {"$ifNull": ["$namespace", ""]},
    "downloads": {"$sum": "$download_count"},
}


def recount(database: Database, *, created_since: str, session: Session) -> Counts:
    """Return the sums over all models and blobs; creations by day since ``created_since`` (``YYYYMMDD``)."""
    counts: Counts = defaultdict(lambda: defaultdict(int))
    for row in _sums(database.models, _SUM_OF_MODELS, _Models, session):
        group = row["_id"]
        total = counts[group["namespace"], group["algorithm"], group["status"]]
        total["models"] += row["models"]
        total["bytes"] += row["bytes"]
        if group["day"] >= created_since:
            total[f"created.{group['day']}"] += row["models"]
    for sums in _sums(database.files, _SUM_OF_BLOBS, _Blobs, session):
        counts[BLOBS]["blobs"] += sums["blobs"]
        counts[BLOBS]["bytes"] += sums["bytes"]
    return counts


def downloads_of_models(database: Database, session: Session) -> dict[str, int]:
    """Return the sum of ``download_count`` in each namespace."""
    downloads: dict[str, int] = defaultdict(int)
    for row in _sums(database.models, _DOWNLOADS, _Downloads, session):
        downloads[row["_id"]] += row["downloads"]
    return downloads


def _sums(collection: Collection[D], group: Fields, row: type[R], session: Session) -> Iterator[R]:
    """Yield the groups of one batch of documents after the other, in the order of their ids."""
    after: Fields = {}
    while True:
        pipeline: list[Fields] = [
            {"$match": after},
            {"$sort": {"_id": 1}},
            {"$limit": BATCH},
            {"$group": {**group, "last": {"$max": "$_id"}}},
        ]
        found = list(rows(collection.aggregate(pipeline, session=session), row))
        if not found:
            return
        yield from found
        after = {"_id": {"$gt": max(each["last"] for each in found)}}
