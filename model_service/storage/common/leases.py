"""Leases: exclusive tasks, and archives during which the sweep must pause.

Each lease is a document with times by the database's clock, so the machines' clocks need not agree. The lease
of a dead holder expires.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database

ARCHIVE = "archive:"
_ARCHIVE_S = 900.0


@dataclass
class HeldLease:
    """A held lease. The holder must ``renew`` it well before it expires."""

    name: str
    ttl_s: float
    token: str = field(default_factory=lambda: str(uuid.uuid4()))


class Leases:
    def __init__(self, database: Database) -> None:
        self._leases = database.leases

    def acquire(self, name: str, ttl_s: float) -> HeldLease | None:
        """Acquire the lease ``name``; None if another holder has it."""
        lease = HeldLease(name, ttl_s)
        free = {"$lt": ["$expires_at", "$$NOW"]}  # a missing time is less than any
        taken = [
            {
                "$set": {
                    "token": {"$cond": [free, lease.token, "$token"]},
                    "expires_at": {"$cond": [free, from_now(ttl_s), "$expires_at"]},
                }
            }
        ]
        try:
            owner = self._leases.find_one_and_update(
                {"_id": name}, taken, upsert=True, return_document=ReturnDocument.AFTER
            )
        except DuplicateKeyError:  # another process created it at this moment
            return None
        return lease if owner and owner["token"] == lease.token else None

    def renew(self, lease: HeldLease) -> bool:
        """Renew the lease. Returns False if it expired and another holder has it."""
        mine = {"_id": lease.name, "token": lease.token}
        later = [{"$set": {"expires_at": from_now(lease.ttl_s)}}]
        return self._leases.update_one(mine, later).matched_count == 1

    def release(self, lease: HeldLease) -> None:
        self._leases.delete_one({"_id": lease.name, "token": lease.token})

    @contextmanager
    def archive(self) -> Iterator[Callable[[], None]]:
        """Keep the sweep from deleting blobs during the block, which must call the yielded function often."""
        lease = self.acquire(f"{ARCHIVE}{uuid.uuid4()}", _ARCHIVE_S)
        assert lease is not None  # the name is unique
        renewed = time.monotonic()

        def keep() -> None:
            nonlocal renewed
            if time.monotonic() - renewed > _ARCHIVE_S / 10:
                self.renew(lease)
                renewed = time.monotonic()

        try:
            yield keep
        finally:
            self.release(lease)

    def archiving(self) -> bool:
        """Return whether an archive is being written or read, which needs all its blobs."""
        running = {"_id": {"$regex": f"^{ARCHIVE}"}, "$expr": {"$gte": ["$expires_at", "$$NOW"]}}
        return self._leases.find_one(running, {"_id": True}) is not None
