"""The statistics of the registry, as counters that change in the transaction of every change.

``model_counters`` has one document per (namespace, algorithm, status, slot): ``models``, ``bytes`` (of their
files) and ``created``, the number created on each day. ``blob_counters`` has one per slot: ``blobs`` and
``bytes``, each blob counted once however many models share it. A value is a sum over slots: transactions
that change the same document conflict, and one of them runs again, so every thread writes to its own slot. A
single slot may be negative; a sum never is.

The counters change only together with what they count. So they always equal a recount, whichever process
was killed when.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from pymongo.errors import PyMongoError
from typing_extensions import TypedDict

from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.slots import CORRECTION_SLOT, Slots, counters_of, day_key, increment, since
from model_service.storage.models.documents import UnlistedModel
from model_service.storage.statistics.downloads import Downloads
from model_service.storage.statistics.recount import BLOBS, Counts, Key, recount

SLOTS = 64
# Days, including today, with a separate count of creations; ``prune`` removes older ones.
CREATED_DAYS = 9
_REBUILT = "rebuilt"
_ALL = counters_of(None)


@dataclass(frozen=True)
class GroupCount:
    """The counts of the models of one algorithm and status."""

    algorithm: str
    status: str
    models: int
    size_bytes: int
    created_today: int
    created_last_7_days: int


class _AlgorithmAndStatus(TypedDict):
    algorithm: str
    status: str


class _Group(TypedDict):
    _id: _AlgorithmAndStatus
    models: int
    bytes: int
    today: int
    week: int


class Counters:
    def __init__(self, database: Database, downloads: Downloads) -> None:
        self._db = database
        self._downloads = downloads
        self._slots = Slots(SLOTS)

    def change(self, before: UnlistedModel | None, after: UnlistedModel | None, session: Session) -> None:
        """Count a change of one model. Call it at the end of the transaction: others write the counters too.

        Args:
            before: the document before the change; None if it is new.
            after: the document after the change; None if it is removed.
        """
        self._count([(before, -1), (after, +1)], session)

    def add(self, models: Iterable[UnlistedModel], session: Session) -> None:
        """Count new models in their transaction, like ``change`` but with fewer writes."""
        self._count([(model, +1) for model in models], session)

    def _count(self, models: Iterable[tuple[UnlistedModel | None, int]], session: Session) -> None:
        changes: Counts = defaultdict(lambda: defaultdict(int))
        for model, sign in models:
            if model is not None:
                for field, value in _counted(model):
                    changes[_key(model)][field] += sign * value
        for key, counts in changes.items():
            self._add_to_own(key, counts, session)

    def change_blobs(self, blobs: int, size_bytes: int, session: Session) -> None:
        """Count published blobs (positive) or removed ones (negative), in their transaction."""
        self._add_to_own(BLOBS, {"blobs": blobs, "bytes": size_bytes}, session)

    def _add_to_own(self, key: Key, counts: dict[str, int], session: Session) -> None:
        try:
            self._add(key, self._slots.current(), counts, session)
        except PyMongoError:
            self._slots.change()
            raise

    def _add(self, key: Key, slot: int, counts: dict[str, int], session: Session) -> None:
        # The order of the fields is significant in an id.
        group = {"namespace": key[0], "algorithm": key[1], "status": key[2], "slot": slot}
        if key == BLOBS:
            increment(self._db.blob_counters, {"slot": slot}, counts, session)
        else:
            increment(self._db.model_counters, group, counts, session)

    def groups(self, namespaces: list[str] | None = None) -> list[GroupCount]:
        """Return every algorithm and status with models in these namespaces; None: all. Largest first.

        Reads one document per group and slot, and no models.
        """
        today = now().date()
        days = [f"$created.{day_key(today - timedelta(days=back))}" for back in range(7)]
        found = self._db.model_counters.aggregate(
            [
                {"$match": counters_of(namespaces)},
                {
                    "$group": {
                        "_id": {"algorithm": "$_id.algorithm", "status": "$_id.status"},
                        "models": {"$sum": "$models"},
                        "bytes": {"$sum": "$bytes"},
                        "today": {"$sum": days[0]},
                        "week": {"$sum": {"$sum": days}},
                    }
                },
                {"$match": {"models": {"$gt": 0}}},
                {"$sort": {"models": -1, "_id": 1}},
            ]
        )
        return [
            GroupCount(**row["_id"], models=row["models"], size_bytes=row["bytes"],
                       created_today=row["today"], created_last_7_days=row["week"])
            for row in rows(found, _Group)
        ]  # fmt: skip

    def blobs(self) -> tuple[int, int]:
        """Return the number of stored blobs and their bytes, each counted once."""
        found = list(self._db.blob_counters.find({"_id.slot": {"$gte": CORRECTION_SLOT}}))
        return sum(row.get("blobs", 0) for row in found), sum(row.get("bytes", 0) for row in found)

    def ensure(self) -> None:
        """Count the content of a database that was never counted. Safe to call from several processes."""
        if self._db.model_counters.find_one({"_id": _REBUILT}) is None:
            self.rebuild()

    def rebuild(self) -> int:
        """Recount everything and correct the counters. Returns how many groups were wrong.

        Writers continue meanwhile. Recount and counters are read from one snapshot, so their difference
        is a permanent error, and is added as an increment in a slot that no writer uses: what writers count
        meanwhile stays counted. Two concurrent rebuilds conflict; the second sees the first one's correction.

        It is one transaction, aborted after 60 s (``transactionLifetimeLimitSeconds``), which is enough for
        some ten million models.
        """

        def work(session: Session) -> int:
            right = recount(self._db, created_since=day_key(_first_day()), session=session)
            kept = self._kept(session)
            wrong = 0
            for key in right.keys() | kept.keys():
                fields = right[key].keys() | kept[key].keys()
                missing = {field: right[key][field] - kept[key][field] for field in fields}
                wrong += any(missing.values())
                self._add(key, CORRECTION_SLOT, missing, session)
            mark = {"$set": {"at": now()}}
            self._db.model_counters.update_one({"_id": _REBUILT}, mark, upsert=True, session=session)
            return wrong

        wrong = self._db.transaction(work)
        self._downloads.rebuild()
        return wrong

    def _kept(self, session: Session) -> Counts:
        """Return the counts that the counters have."""
        counts: Counts = defaultdict(lambda: defaultdict(int))
        oldest = day_key(_first_day())
        for document in self._db.model_counters.find(_ALL, session=session):
            group = document["_id"]
            total = counts[group["namespace"], group["algorithm"], group["status"]]
            total["models"] += document.get("models", 0)
            total["bytes"] += document.get("bytes", 0)
            for day, created in document.get("created", {}).items():
                if day >= oldest:
                    total[f"created.{day}"] += created
        for slot in self._db.blob_counters.find({"_id.slot": {"$gte": CORRECTION_SLOT}}, session=session):
            counts[BLOBS]["blobs"] += slot.get("blobs", 0)
            counts[BLOBS]["bytes"] += slot.get("bytes", 0)
        return counts

    def prune(self) -> None:
        """Remove days that no report shows, and empty groups. For a daily job."""
        kept = since("created", day_key(_first_day()))
        self._db.model_counters.update_many(_ALL, [{"$set": {"created": kept}}])
        # A later increment creates the document again.
        empty = {"models": {"$in": [0, None]}, "bytes": {"$in": [0, None]}, "created": {}}
        self._db.model_counters.delete_many(_ALL | empty)


def _key(model: UnlistedModel) -> Key:
    return model.get("namespace", ""), model["algorithm"], str(model["status"])


def _counted(model: UnlistedModel) -> Iterator[tuple[str, int]]:
    yield "models", 1
    yield "bytes", sum(file["size_bytes"] for file in model["files"])
    created: date = model["created_at"].date()
    if created >= _first_day():
        yield f"created.{day_key(created)}", 1


def _first_day() -> date:
    return now().date() - timedelta(days=CREATED_DAYS - 1)
