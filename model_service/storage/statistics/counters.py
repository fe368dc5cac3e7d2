"""The statistics of the registry, kept as counters in the transaction of every change.

``model_counters`` has one document per (namespace, algorithm, status, slot): ``models``, ``bytes`` (of their
files) and ``created``, how many of them were created on which day. ``blob_counters`` has one per slot:
``blobs`` and ``bytes``, each stored once however many models share it. A value is the sum over the slots: two
transactions that change one document conflict, and one of them runs again, so every thread has a slot of its
own to write to. A slot alone may be negative; a sum is not.

Because the counters change with what they count or not at all, at any moment of the database's history they
are what a recount at that moment would give, whichever process was killed when.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from pymongo.errors import PyMongoError

from model_service.storage.common.db import Database, Document, Session, now
from model_service.storage.common.slots import CORRECTION_SLOT, Slots, counters_of, day_key, increment, since
from model_service.storage.statistics.downloads import Downloads
from model_service.storage.statistics.recount import BLOBS, Counts, Key, recount

SLOTS = 64
# Days, today included, on which creations are counted apart; ``prune`` removes those further back.
CREATED_DAYS = 9
_REBUILT = "rebuilt"
_ALL = counters_of(None)


@dataclass(frozen=True)
class GroupCount:
    """What the models of one algorithm and status come to."""

    algorithm: str
    status: str
    models: int
    size_bytes: int
    created_today: int
    created_last_7_days: int


class Counters:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._slots = Slots(SLOTS)

    def change(self, before: Document | None, after: Document | None, session: Session) -> None:
        """Count a change of one model, in its transaction: last there, for others write these documents too.

        Args:
            before: the document as it was; None when it is new.
            after: the document as it is now; None when it is gone.
        """
        self._count([(before, -1), (after, +1)], session)

    def add(self, models: Iterable[Document], session: Session) -> None:
        """Count new models, in their transaction: as ``change`` would, with fewer writes."""
        self._count([(model, +1) for model in models], session)

    def _count(self, models: Iterable[tuple[Document | None, int]], session: Session) -> None:
        changes: Counts = defaultdict(lambda: defaultdict(int))
        for model, sign in models:
            if model is not None:
                for field, value in _counted(model):
                    changes[_key(model)][field] += sign * value
        for key, counts in changes.items():
            self._add_to_own(key, counts, session)

    def change_blobs(self, blobs: int, size_bytes: int, session: Session) -> None:
        """Count blobs that are published (positive) or no longer (negative), in their transaction."""
        self._add_to_own(BLOBS, {"blobs": blobs, "bytes": size_bytes}, session)

    def _add_to_own(self, key: Key, counts: dict[str, int], session: Session) -> None:
        try:
            self._add(key, self._slots.current(), counts, session)
        except PyMongoError:
            self._slots.change()
            raise

    def _add(self, key: Key, slot: int, counts: dict[str, int], session: Session) -> None:
        # The order of its fields is part of an id.
        group: Document = {"namespace": key[0], "algorithm": key[1], "status": key[2], "slot": slot}
        if key == BLOBS:
            increment(self._db.blob_counters, {"slot": slot}, counts, session)
        else:
            increment(self._db.model_counters, group, counts, session)

    def groups(self, namespaces: list[str] | None = None) -> list[GroupCount]:
        """Every algorithm and status that has models, in these namespaces; None for all. Largest first.

        Reads a document per group and slot, and no model.
        """
        today = now().date()
        days = [f"$created.{day_key(today - timedelta(days=back))}" for back in range(7)]
        rows = self._db.model_counters.aggregate(
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
            for row in rows
        ]  # fmt: skip

    def blobs(self) -> tuple[int, int]:
        """How many blobs are stored, and their bytes: each once."""
        rows = list(self._db.blob_counters.find({"_id.slot": {"$gte": CORRECTION_SLOT}}))
        return sum(row.get("blobs", 0) for row in rows), sum(row.get("bytes", 0) for row in rows)

    def ensure(self) -> None:
        """Count what a database holds that was never counted. Safe to call from several processes."""
        if self._db.model_counters.find_one({"_id": _REBUILT}) is None:
            self.rebuild()

    def rebuild(self) -> int:
        """Recount everything and correct the counters; how many groups were wrong.

        Writers go on meanwhile. The recount and the counters are read from one snapshot, so what they differ
        by is wrong for good, and is added as an increment beside the writers' own slots: whatever they count
        in the meantime stays counted. Two rebuilds at once conflict, and the second sees what the first
        corrected.

        It is one transaction, which MongoDB ends after 60 s (``transactionLifetimeLimitSeconds``): time for
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
        Downloads(self._db).rebuild()
        return wrong

    def _kept(self, session: Session) -> Counts:
        """The counts as the counters have them."""
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
        for document in self._db.blob_counters.find({"_id.slot": {"$gte": CORRECTION_SLOT}}, session=session):
            counts[BLOBS]["blobs"] += document.get("blobs", 0)
            counts[BLOBS]["bytes"] += document.get("bytes", 0)
        return counts

    def prune(self) -> None:
        """Forget the days that no answer looks at, and groups that are empty. For a daily job."""
        kept = since("created", day_key(_first_day()))
        self._db.model_counters.update_many(_ALL, [{"$set": {"created": kept}}])
        # An increment that comes later makes the document again.
        empty = {"models": {"$in": [0, None]}, "bytes": {"$in": [0, None]}, "created": {}}
        self._db.model_counters.delete_many(_ALL | empty)


def _key(model: Document) -> Key:
    return model.get("namespace", ""), model["algorithm"], str(model["status"])


def _counted(model: Document) -> Iterator[tuple[str, int]]:
    yield "models", 1
    yield "bytes", sum(file["size_bytes"] for file in model["files"])
    created: date = model["created_at"].date()
    if created >= _first_day():
        yield f"created.{day_key(created)}", 1


def _first_day() -> date:
    return now().date() - timedelta(days=CREATED_DAYS - 1)
