"""The idempotency_keys collection: the result of each request, so that a repetition creates nothing.

A note is written in the transaction that creates the resource, so neither exists without the other. MongoDB
deletes it after a day.
"""

from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import IdempotencyKey


class AlreadyNoted(Exception):
    """A concurrent request with the same key has committed."""


class IdempotencyKeys:
    def __init__(self, database: Database) -> None:
        self._keys = database.idempotency_keys

    def get(self, note_id: str) -> IdempotencyKey | None:
        return self._keys.find_one({"_id": note_id})

    def note(self, note_id: str, fingerprint: str, resource_id: object, session: Session) -> None:
        """Record the request, as the first write of its transaction: a concurrent one waits here and fails.

        Raises:
            AlreadyNoted: the concurrent request has committed.
        """
        note: IdempotencyKey = {
            "_id": note_id,
            "fingerprint": fingerprint,
            "resource_id": resource_id,
            "created_at": now(),
        }
        try:
            self._keys.insert_one(note, session=session)
        except DuplicateKeyError:
            raise AlreadyNoted from None
