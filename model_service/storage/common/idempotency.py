"""The idempotency_keys collection: which request made what, so that its repetition makes nothing.

A note is written in the transaction that makes the thing, so that there is never one without the other; the
database forgets it after a day.
"""

from typing import Any

from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, Document, Session, now


class AlreadyNoted(Exception):
    """The request was carried out meanwhile."""


class IdempotencyKeys:
    def __init__(self, database: Database) -> None:
        self._keys = database.idempotency_keys

    def get(self, note_id: str) -> Document | None:
        return self._keys.find_one({"_id": note_id})

    def note(self, note_id: str, fingerprint: str, resource_id: Any, session: Session) -> None:
        """The first write of its transaction: of two at once, one waits here and then fails.

        Raises:
            AlreadyNoted: the other one has committed.
        """
        note = {"_id": note_id, "fingerprint": fingerprint, "resource_id": resource_id, "created_at": now()}
        try:
            self._keys.insert_one(note, session=session)
        except DuplicateKeyError:
            raise AlreadyNoted from None
