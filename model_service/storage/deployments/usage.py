"""What the inference servers count. Nothing is counted twice and nothing is lost, however often it is sent.

usage         {deployment_id, hour, member, model_version (unique together), requests, client_errors (4xx),
               errors (5xx), inference_ms, bytes_in, bytes_out, h: {bucket of latency: requests},
               flushes: {process: number}}
usage_months  {_id: {owner, month}, requests, flushed_by: [{process, number}]}: what the quota is counted by
deployments   request_count, error_count, total_inference_time_ms, last_request_at, usage_flushes

A process numbers its batches, and sends one until MongoDB has acknowledged it before it sends the next. Each
document notes with the increment which batch it had last from that process, and takes no batch
again: a write whose answer was lost is simply sent again. Processes come and go; within an hour they are few,
and a month remembers those that wrote last: it could count a batch again that stays in doubt while
``_REMEMBERED_PROCESSES`` others write. A deployment's document, which lives longer than any process, notes
the last batches of all instead, and could count one again that stays in doubt for longer than
``_REMEMBERED`` others take.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from model_service.latency import LATENCY_BUCKETS
from model_service.storage.common.db import Database, Document
from model_service.storage.common.indexes import INDEXES

_DUPLICATE_KEY = 11000
_REMEMBERED = 32
_REMEMBERED_PROCESSES = 256
# Of an answer about usage: some 4 MB of JSON.
MOST_ROWS = 10_000
_SUMS = ("requests", "client_errors", "errors", "inference_ms", "bytes_in", "bytes_out")


@dataclass(frozen=True)
class Batch:
    """The n-th of a process, from 1; ``process`` has no dots and dollars."""

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
    """``histogram``: requests by the buckets of ``model_service.latency``."""

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
        """Add to the hours and to the deployments' totals. A batch that fails is sent again as it was.

        Raises: one of DATABASE_ERRORS: some of it may be written.
        """
        if not self._indexed:  # the registry may have never run here, and without it nothing is unique
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
        """Add to what an owner's deployments were asked in the month that begins then. As ``add``."""
        updates = [_monthly(_month(*key), count, batch) for key, count in requests.items()]
        _add_once(self._months, updates)

    def months(self, owners: Iterable[str], month: datetime) -> dict[str, int]:
        """The requests of each owner in the month that begins then; one that is not there had none."""
        wanted = {"_id": {"$in": [_month(owner, month) for owner in owners]}}
        return {row["_id"]["owner"]: row["requests"] for row in self._months.find(wanted, {"requests": True})}

    def by_interval(self, deployment_id: str, start: datetime, end: datetime, unit: str) -> list[Document]:
        """What was counted from ``start`` (inclusive) to ``end``, by member, version and ``unit``.

        Returns {at, member, model_version, the sums, histogram}, by ``at``, then member and version:
        MOST_ROWS, and one more where there are more.

        Args:
            unit: "hour" or "day".
        """
        at = {"$dateTrunc": {"date": "$hour", "unit": unit}}
        grouped = {name: {"$sum": f"${name}"} for name in _SUMS}
        buckets = {f"h{index}": {"$sum": f"$h.{index}"} for index in range(LATENCY_BUCKETS)}
        rows = self._usage.aggregate(
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
        return [
            row["_id"] | {name: row[name] for name in _SUMS} | {"histogram": [row[name] for name in buckets]}
            for row in rows
        ]

    def note_key_uses(self, key_ids: Iterable[str], at: datetime) -> None:
        """Say of these keys of endpoints that they were used then. A key that is gone stays gone."""
        self._keys.update_many({"_id": {"$in": list(key_ids)}}, {"$max": {"last_used_at": at}})


def month_of(moment: datetime) -> datetime:
    """When its month (UTC) began."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(moment: datetime) -> datetime:
    """When the month after its own begins."""
    return month_of(month_of(moment) + timedelta(days=31))


def _month(owner: str, month: datetime) -> Document:
    """The order of its fields is part of an id."""
    return {"owner": owner, "month": month}


def _hourly(key: UsageKey, counts: Counts, batch: Batch) -> tuple[Document, Document]:
    """The filter, without this batch, and what adds it."""
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


def _monthly(month: Document, requests: int, batch: Batch) -> tuple[Document, list[Document]]:
    """As ``_hourly``; the process goes behind those that wrote before, which takes MongoDB longer."""
    had = {"process": batch.process, "number": {"$gte": batch.number}}
    written = {"$ifNull": ["$flushed_by", []]}
    others = {"$filter": {"input": written, "cond": {"$ne": ["$$this.process", batch.process]}}}
    own = [{"process": batch.process, "number": batch.number}]
    changes = {
        "requests": {"$add": [{"$ifNull": ["$requests", 0]}, requests]},
        "flushed_by": {"$slice": [{"$concatArrays": [others, own]}, -_REMEMBERED_PROCESSES]},
    }
    return {"_id": month, "flushed_by": {"$not": {"$elemMatch": had}}}, [{"$set": changes}]


def _add_once(
    collection: Collection[Document], updates: Sequence[tuple[Document, Document | list[Document]]]
) -> None:
    """Add to the documents that these filters name, each of which a unique index holds; make what is missing.

    A document that has this batch does not match, so that the upsert tries to make it again and the unique
    index refuses: as it does where another process makes the document at the same moment. To update it once
    more, without making it, is right in both cases.
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
