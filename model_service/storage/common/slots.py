"""Counters spread over several documents, which concurrent transactions increment."""

import itertools
import os
import threading
from datetime import date, datetime

from pymongo.collection import Collection

from model_service.storage.common.db import Session
from model_service.storage.common.documents import D, Fields

# Only a rebuild writes this slot, so that its correction conflicts with no other writer. Two concurrent
# rebuilds conflict here, and the second one sees the first one's correction.
CORRECTION_SLOT = -1


def counters_of(namespaces: list[str] | None) -> dict[str, object]:
    """Return the filter for the counters of these namespaces, or of all; other documents never match."""
    return {"_id.namespace": {"$gte": ""} if namespaces is None else {"$in": namespaces}}


class Slots:
    """Chooses the document that a thread increments, so that threads do not conflict."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = itertools.count(os.getpid() * 16)  # adjacent slots for the threads of a process
        self._thread = threading.local()

    def current(self) -> int:
        slot: int | None = getattr(self._thread, "slot", None)
        return self.change() if slot is None else slot

    def change(self) -> int:
        """Choose another slot after a conflict. A killed process blocks its slot until MongoDB aborts its
        transaction, which takes up to 90 s."""
        slot: int = next(self._next) % self._count
        self._thread.slot = slot
        return slot


def increment(collection: Collection[D], key: Fields, counts: dict[str, int], session: Session) -> None:
    """Add to a counters document in a transaction. Zeros are not written and create no document.

    If a concurrent transaction creates or changes the same document, this one conflicts and runs again.
    """
    increments = {field: count for field, count in counts.items() if count}
    if increments:
        collection.update_one({"_id": key}, {"$inc": increments}, upsert=True, session=session)


def day_key(day: date) -> str:
    """Return a field name that sorts like the days and contains no dot."""
    return f"{day.year:04}{day.month:02}{day.day:02}"


def hour_key(moment: datetime) -> str:
    return f"{day_key(moment.date())}{moment.hour:02}"


def since(field: str, first: str) -> dict[str, object]:
    """Return the expression for the entries of an object whose keys are ``first`` or higher."""
    entries = {"$objectToArray": {"$ifNull": [f"${field}", {}]}}
    return {"$arrayToObject": {"$filter": {"input": entries, "cond": {"$gte": ["$$this.k", first]}}}}
