"""Usage counted by the inference servers. Each batch counts exactly once, however often it is sent.

usage         {deployment_id, hour, member, model_version (unique together), requests, client_errors (4xx),
               errors (5xx), inference_ms, bytes_in, bytes_out, h: {bucket of latency: requests},
               flushes: {process: number}}
usage_months  {_id: {owner, month}, requests, flushed_by: [{process, number}]}: the base of the quota
deployments   request_count, error_count, total_inference_time_ms, last_request_at, usage_flushes

A process numbers its batches, and repeats each until MongoDB has acknowledged it before it sends the next.
With the increment, each document records the last batch of the process, and rejects a batch that it has. So a
write whose response was lost is simply sent again. The processes of an hour are few. A month remembers the
processes that wrote last: a batch could count twice only if it stays unacknowledged while
``_REMEMBERED_PROCESSES`` other processes write. A deployment's document outlives all processes and remembers
the last batches of all: one could count twice only if it stays unacknowledged while ``_REMEMBERED`` others
are written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from model_service.latency import LATENCY_BUCKETS
from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database
from model_service.storage.common.documents import D, Fields
from model_service.storage.common.indexes import INDEXES
from model_service.storage.deployments.documents import OwnerMonth, UsageRow

_DUPLICATE_KEY = 11000
_REMEMBERED = 32
_REMEMBERED_PROCESSES = 256
# Limit of rows in a response: about 4 MB of JSON.
MOST_ROWS = 10_000
_SUMS = ("requests", "client_errors", "errors", "inference_ms", "bytes_in", "bytes_out")


@dataclass(frozen=True)
class Batch:
    """The n-th batch of a process, from 1; ``process`` contains no dots or dollars."""

    process: str
    number: int


@dataclass(frozen=True)
class UsageKey:
    hour: datetime
    deployment_id: str
    member: str
    model_version: str


@dataclass
class Counts:
    """Counted usage. ``histogram``: requests by the buckets of ``model_service.latency``."""

    last_request_at: datetime
    requests: int = 0
    client_errors: int = 0
    errors: int = 0
    inference_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * LATENCY_BUCKETS)

    def add(self, other: "Counts") -> None:
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.histogram = [mine + theirs for mine, theirs in zip(self.histogram, other.histogram, strict=True)]
        self.last_request_at = max(self.last_request_at, other.last_request_at)


class UsageCounts:
    def __init__(self, database: Database) -> None:
        self._usage = database.usage
        self._months = database.usage_months
        self._deployments = database.deployments
        self._keys = database.api_keys
        self._indexed = False

    def add(self, counted: Mapping[UsageKey, Counts], batch: Batch) -> None:
        """Add to the hours and to the deployments' totals. The caller repeats a failed batch unchanged.

        Raises: one of DATABASE_ERRORS: some of it may be written.
        """
        if not self._indexed:  # the unique index prevents double counts; the registry may never have run
            self._usage.create_indexes(INDEXES[self._usage.name])
            self._indexed = True
        _add_once(self._usage, [_hourly(key, counts, batch) for key, counts in counted.items()])
        totals: dict[str, Counts] = {}
        for key, counts in counted.items():
            totals.setdefault(key.deployment_id, Counts(counts.last_request_at)).add(counts)
        self._add_totals(totals, f"{batch.process}-{batch.number}")

    def _add_totals(self, totals: Mapping[str, Counts], mark: str) -> None:
        writes = [
            UpdateOne(
                {"_id": deployment_id, "usage_flushes": {"$ne": mark}},
                {
                    "$inc": {
                        "request_count": counts.requests,
                        "error_count": counts.errors,
                        "total_inference_time_ms": counts.inference_ms,
                    },
                    "$max": {"last_request_at": counts.last_request_at},
                    "$push": {"usage_flushes": {"$each": [mark], "$slice": -_REMEMBERED}},
                },
            )
            for deployment_id, counts in totals.items()
        ]
        if writes:
            self._deployments.bulk_write(writes, ordered=False)

    def add_months(self, requests: Mapping[tuple[str, datetime], int], batch: Batch) -> None:
        """Add requests to an owner's month, by the month's first moment. Errors as ``add``."""
        updates = [_monthly(_month(*key), count, batch) for key, count in requests.items()]
        _add_once(self._months, updates)

    def months(self, owners: Iterable[str], month: datetime) -> dict[str, int]:
        """Return the requests of each owner in the month that begins then; owners without any are missing."""
        wanted = {"_id": {"$in": [_month(owner, month) for owner in owners]}}
        return {row["_id"]["owner"]: row["requests"] for row in self._months.find(wanted, {"requests": True})}

    def by_interval(self, deployment_id: str, start: datetime, end: datetime, unit: str) -> list[UsageRow]:
        """Return the usage from ``start`` (inclusive) to ``end``, by member, version and ``unit``.

        Rows are {at, member, model_version, the sums, histogram}, sorted by the first three. There are
        at most MOST_ROWS + 1; the last one shows that there are too many.

        Args:
            unit: "hour" or "day".
        """
        at = {"$dateTrunc": {"date": "$hour", "unit": unit}}
        grouped = {name: {"$sum": f"${name}"} for name in _SUMS}
        buckets = {f"h{index}": {"$sum": f"$h.{index}"} for index in range(LATENCY_BUCKETS)}
        found = self._usage.aggregate(
            [
                {"$match": {"deployment_id": deployment_id, "hour": {"$gte": start, "$lt": end}}},
                {
                    "$group": {
                        "_id": {"at": at, "member": "$member", "model_version": "$model_version"},
                        **grouped,
                        **buckets,
                    }
                },
                {"$sort": {"_id": 1}},
                {"$limit": MOST_ROWS + 1},
            ]
        )
        return [_row(sums, list(buckets)) for sums in rows(found, dict[str, object])]

    def note_key_uses(self, key_ids: Iterable[str], at: datetime) -> None:
        """Record the use of these endpoint keys. Deleted keys are not created again."""
        self._keys.update_many({"_id": {"$in": list(key_ids)}}, {"$max": {"last_used_at": at}})


def month_of(moment: datetime) -> datetime:
    """Return the beginning of the month (UTC) of a time."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(moment: datetime) -> datetime:
    """Return the beginning of the month after the one of a time."""
    return month_of(month_of(moment) + timedelta(days=31))


def _row(found: Fields, buckets: list[str]) -> UsageRow:
    row = {**cast(Fields, found["_id"]), **{name: found[name] for name in _SUMS}}
    return cast(UsageRow, {**row, "histogram": [found[name] for name in buckets]})


def _month(owner: str, month: datetime) -> OwnerMonth:
    """Return the id of a month. The order of its fields is significant."""
    return {"owner": owner, "month": month}


def _hourly(key: UsageKey, counts: Counts, batch: Batch) -> tuple[Fields, Fields]:
    """Return the filter, which excludes documents with this batch, and the update that adds it."""
    hour = {
        "deployment_id": key.deployment_id,
        "hour": key.hour,
        "member": key.member,
        "model_version": key.model_version,
    }
    added = {name: getattr(counts, name) for name in _SUMS}
    added |= {f"h.{index}": count for index, count in enumerate(counts.histogram)}
    noted = f"flushes.{batch.process}"
    return hour | {noted: {"$not": {"$gte": batch.number}}}, {
        "$inc": {name: value for name, value in added.items() if value},
        "$set": {noted: batch.number},
    }


def _monthly(month: OwnerMonth, requests: int, batch: Batch) -> tuple[Fields, list[Fields]]:
    """As ``_hourly``; moves the process to the end of the list, which takes MongoDB longer."""
    had = {"process": batch.process, "number": {"$gte": batch.number}}
    written = {"$ifNull": ["$flushed_by", []]}
    others = {"$filter": {"input": written, "cond": {"$ne": ["$$this.process", batch.process]}}}
    own = [{"process": batch.process, "number": batch.number}]
    changes = {
        "requests": {"$add": [{"$ifNull": ["$requests", 0]}, requests]},
        "flushed_by": {"$slice": [{"$concatArrays": [others, own]}, -_REMEMBERED_PROCESSES]},
    }
    return {"_id": month, "flushed_by": {"$not": {"$elemMatch": had}}}, [{"$set": changes}]


def _add_once(collection: Collection[D], updates: Sequence[tuple[Fields, Fields | list[Fields]]]) -> None:
    """Update the documents that these filters match by a unique index, and create missing ones.

    A document with this batch does not match, so the upsert tries to create it again and fails at the unique
    index. The same happens if another process creates the document at the same moment. In both cases, the
    right reaction is to repeat the update without upsert.
    """
    if not updates:
        return
    try:
        collection.bulk_write([UpdateOne(*each, upsert=True) for each in updates], ordered=False)
    except BulkWriteError as exc:
        errors = exc.details["writeErrors"]
        if exc.details["writeConcernErrors"] or any(error["code"] != _DUPLICATE_KEY for error in errors):
            raise
        again = [UpdateOne(*updates[error["index"]]) for error in errors]
        collection.bulk_write(again, ordered=False)
