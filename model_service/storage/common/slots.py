"""Counters in documents that several transactions increment at once."""

import itertools
import os
import threading
from datetime import date, datetime
from typing import Any

from pymongo.collection import Collection

from model_service.storage.common.db import Document, Session

# Written by a rebuild alone, so that its correction meets no writer. Two at once conflict there, and the
# second sees what the first corrected.
CORRECTION_SLOT = -1


def counters_of(namespaces: list[str] | None) -> Document:
    """What the counters of these namespaces match, or of all; a document of another kind never does."""
    return {"_id.namespace": {"$gte": ""} if namespaces is None else {"$in": namespaces}}


class Slots:
    """Which of several documents a thread increments, so that it meets no other there."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = itertools.count(os.getpid() * 16)  # the threads of processes side by side
        self._thread = threading.local()

    def current(self) -> int:
        slot: int | None = getattr(self._thread, "slot", None)
        return self.change() if slot is None else slot

    def change(self) -> int:
        """Another one, after a conflict: a process that was killed holds its slot until MongoDB ends the
        transaction that it left behind, which takes up to 90 s."""
        slot: int = next(self._next) % self._count
        self._thread.slot = slot
        return slot


def increment(collection: Collection[Document], key: Any, counts: dict[str, int], session: Session) -> None:
    """Add to a counters document, in a transaction; what is zero is not written, and no document for it.

    Where another transaction makes or changes the same document meanwhile, this one conflicts and runs again.
    """
    increments = {field: count for field, count in counts.items() if count}
    if increments:
        collection.update_one({"_id": key}, {"$inc": increments}, upsert=True, session=session)


def day_key(day: date) -> str:
    """A field's name: sorts as the days do, and has no dot."""
    return f"{day.year:04}{day.month:02}{day.day:02}"


def hour_key(moment: datetime) -> str:
    return f"{day_key(moment.date())}{moment.hour:02}"


def since(field: str, first: str) -> Document:
    """The expression for what an object holds under ``first`` and the keys after it."""
    entries = {"$objectToArray": {"$ifNull": [f"${field}", {}]}}
    return {"$arrayToObject": {"$filter": {"input": entries, "cond": {"$gte": ["$$this.k", first]}}}}
