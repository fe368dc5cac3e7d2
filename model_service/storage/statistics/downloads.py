"""Download counts, for each model, and by day and hour for each namespace.

A download is counted before its first byte is sent, so each download that a client received counts, even if
the process is killed afterwards. The first of several concurrent downloads writes all, so they share
the cost of a write. ``download_counters`` has one document per (namespace, slot): ``total``, ``days`` and
``hours``.

Counting uses no transaction and no journal wait: a transaction that a killed process leaves behind
locks its documents for up to 90 s, and a model that is downloaded often would be one of them. The total
is written first, so it is never less than the sum of the models.
"""

import os
import threading
from collections import Counter
from datetime import date, timedelta

import pymongo
import structlog
from pymongo import UpdateOne, WriteConcern
from pymongo.errors import PyMongoError

from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.common.slots import (
    CORRECTION_SLOT,
    counters_of,
    day_key,
    hour_key,
    increment,
    since,
)
from model_service.storage.models.documents import Model
from model_service.storage.statistics.recount import downloads_of_models

log = structlog.get_logger(__name__)

# A process writes one batch at a time.
SLOTS = 16
MAX_DAYS = 366
HOURS_KEPT = 48
# Maximum time that a download waits for its count.
TIMEOUT_S = 2.0
_ALL = counters_of(None)


class _Batch:
    def __init__(self) -> None:
        self.downloads: Counter[tuple[str, StoredId]] = Counter()
        self.written = False


class Downloads:
    def __init__(self, database: Database) -> None:
        self._db = database
        unjournaled = WriteConcern(w=1)
        self._models = database.models.with_options(write_concern=unjournaled)
        self._counters = database.download_counters.with_options(write_concern=unjournaled)
        self._slot = os.getpid() % SLOTS
        self._batch = _Batch()
        self._adding = threading.Lock()
        self._writing = threading.Lock()

    def count(self, model: Model) -> None:
        """Count the start of a download. An error is logged and does not fail the download."""
        with self._adding:
            batch = self._batch
            batch.downloads[model.get("namespace", ""), model["_id"]] += 1
        with self._writing:
            if not batch.written:
                self._close(batch)

    def _close(self, batch: _Batch) -> None:
        with self._adding:
            self._batch = _Batch()
        batch.written = True
        try:
            with pymongo.timeout(TIMEOUT_S):
                self._write(batch.downloads)
        except PyMongoError as exc:
            log.warning("downloads.not_counted", downloads=batch.downloads.total(), error=str(exc))

    def _write(self, downloads: Counter[tuple[str, StoredId]]) -> None:
        moment = now()
        day, hour = day_key(moment.date()), hour_key(moment)
        namespaces: Counter[str] = Counter()
        for (namespace, _), count in downloads.items():
            namespaces[namespace] += count
        self._counters.bulk_write(
            [
                UpdateOne(
                    {"_id": {"namespace": namespace, "slot": self._slot}},
                    {"$inc": {"total": count, f"days.{day}": count, f"hours.{hour}": count}},
                    upsert=True,
                )
                for namespace, count in namespaces.items()
            ]
        )
        self._models.bulk_write(
            [
                UpdateOne({"_id": model_id}, {"$inc": {"download_count": count}})
                for (_, model_id), count in downloads.items()
            ],
            ordered=False,
        )

    def recent(self, namespaces: list[str] | None = None) -> tuple[int, int, int]:
        """Return the downloads in total, today (UTC), and in this hour and the 23 before it."""
        moment = now()
        hours = [f"$hours.{hour_key(moment - timedelta(hours=back))}" for back in range(24)]
        today = f"$days.{day_key(moment.date())}"
        sums = self._sums({"total": ["$total"], "today": [today], "hours": hours}, namespaces)
        return sums["total"], sums["today"], sums["hours"]

    def by_day(self, days: int, namespaces: list[str] | None = None) -> list[tuple[date, int]]:
        """Return the downloads of each of the last ``days`` days (UTC), today last."""
        today = now().date()
        wanted = [today - timedelta(days=back) for back in reversed(range(days))]
        sums = self._sums({day_key(day): [f"$days.{day_key(day)}"] for day in wanted}, namespaces)
        return [(day, sums[day_key(day)]) for day in wanted]

    def _sums(self, fields: dict[str, list[str]], namespaces: list[str] | None) -> dict[str, int]:
        found = self._db.download_counters.aggregate(
            [
                {"$match": counters_of(namespaces)},
                {"$group": {"_id": None, **{name: _sum(paths) for name, paths in fields.items()}}},
            ]
        )
        sums = next(iter(rows(found, dict[str, int])), dict[str, int]())
        return {name: sums.get(name, 0) for name in fields}

    def rebuild(self) -> None:
        """Raise the totals to the models' counts if those are higher, as after an import.

        A total may be larger than that, since it includes downloads of deleted models.
        """

        def work(session: Session) -> None:
            counted: Counter[str] = Counter()
            for row in self._db.download_counters.find(_ALL, {"total": True}, session=session):
                counted[row["_id"]["namespace"]] += row.get("total", 0)
            for namespace, downloads in downloads_of_models(self._db, session).items():
                missing = max(0, downloads - counted[namespace])
                key = {"namespace": namespace, "slot": CORRECTION_SLOT}
                increment(self._db.download_counters, key, {"total": missing}, session)

        self._db.transaction(work)

    def prune(self) -> None:
        """Remove hours and days that no report shows. For a daily job."""
        moment = now()
        kept = {
            "days": since("days", day_key(moment.date() - timedelta(days=MAX_DAYS))),
            "hours": since("hours", hour_key(moment - timedelta(hours=HOURS_KEPT))),
        }
        self._db.download_counters.update_many(_ALL, [{"$set": kept}])


def _sum(paths: list[str]) -> Fields:
    return {"$sum": {"$sum": paths}}
