"""The access_keys collection: API keys of the registry. (``api_keys`` holds the keys of endpoints.)"""

from datetime import datetime, timedelta

from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

from model_service.storage.access.documents import AccessKey, KeySecret
from model_service.storage.common.db import Database, Session, now


class DuplicatePrefix(Exception):
    """Another key has this prefix."""


class AccessKeys:
    def __init__(self, database: Database) -> None:
        self._keys = database.access_keys
        self._uses = database.access_keys.with_options(write_concern=WriteConcern(w=1))

    def insert(self, key: AccessKey, session: Session) -> None:
        """Store a new key. Raises: DuplicatePrefix."""
        try:
            self._keys.insert_one(key, session=session)
        except DuplicateKeyError:
            raise DuplicatePrefix from None

    def next_expiry(self, used_within: timedelta) -> datetime | None:
        """Return the earliest future expiry of the keys that were used within that time."""
        at = now()
        query = {"expires_at": {"$gt": at}, "last_used_at": {"$gt": at - used_within}}
        found = self._keys.find_one(query, {"expires_at": True}, sort=[("expires_at", 1)])
        return found["expires_at"] if found is not None else None

    def get(self, key_id: str, session: Session | None = None) -> AccessKey | None:
        return self._keys.find_one({"_id": key_id}, session=session)

    def with_prefix(self, prefix: str) -> AccessKey | None:
        return self._keys.find_one({"secrets.prefix": prefix})

    def page(self, owner: str | None, skip: int, limit: int) -> tuple[list[AccessKey], int]:
        """Return a page of an owner's keys, or of all keys, newest first, and the total number."""
        query = {} if owner is None else {"owner": owner}
        found = self._keys.find(query, sort=[("created_at", -1), ("_id", -1)], skip=skip, limit=limit)
        total = self._keys.count_documents(query) if query else self._keys.estimated_document_count()
        return list(found), total

    def set_secrets(self, key_id: str, secrets: list[KeySecret], session: Session) -> AccessKey | None:
        """Replace the secrets. Returns the changed key, or None if there is none. Raises: DuplicatePrefix."""
        try:
            return self._keys.find_one_and_update(
                {"_id": key_id},
                {"$set": {"secrets": secrets}},
                return_document=ReturnDocument.AFTER,
                session=session,
            )
        except DuplicateKeyError:
            raise DuplicatePrefix from None

    def delete(self, key_id: str, session: Session) -> bool:
        return self._keys.delete_one({"_id": key_id}, session=session).deleted_count == 1

    def delete_of(self, owner: str, session: Session) -> int:
        """Delete all of an owner's keys and return their number."""
        return self._keys.delete_many({"owner": owner}, session=session).deleted_count

    def note_use(self, key: AccessKey, every: timedelta) -> None:
        """Record that the key is in use, with one write per ``every``, however often it is used."""
        last = key["last_used_at"]
        if last is None or now() - last >= every:
            self._uses.update_one(
                {"_id": key["_id"], "last_used_at": last}, {"$set": {"last_used_at": now()}}
            )
