"""The access_keys collection: keys of the registry's API. (``api_keys`` are those of deployed endpoints.)

{_id, name, owner, scopes, namespaces: [...] or None for all, secrets: [{prefix (unique), sha256,
expires_at}], expires_at, last_used_at, created_by, created_at}. The secrets are the present one and, after a
rotation, the one before it until its grace time is over.
"""

from datetime import datetime, timedelta

from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, Document, Session, now


class DuplicatePrefix(Exception):
    """Another key has this prefix."""


class AccessKeys:
    def __init__(self, database: Database) -> None:
        self._keys = database.access_keys
        self._uses = database.access_keys.with_options(write_concern=WriteConcern(w=1))

    def insert(self, key: Document, session: Session) -> None:
        """Raises: DuplicatePrefix."""
        try:
            self._keys.insert_one(key, session=session)
        except DuplicateKeyError:
            raise DuplicatePrefix from None

    def get(self, key_id: str, session: Session | None = None) -> Document | None:
        return self._keys.find_one({"_id": key_id}, session=session)

    def with_prefix(self, prefix: str) -> Document | None:
        return self._keys.find_one({"secrets.prefix": prefix})

    def page(self, owner: str | None, skip: int, limit: int) -> tuple[list[Document], int]:
        """One page of an owner's keys, or of all, newest first, and how many there are in all."""
        query = {} if owner is None else {"owner": owner}
        found = self._keys.find(query, sort=[("created_at", -1), ("_id", -1)], skip=skip, limit=limit)
        total = self._keys.count_documents(query) if query else self._keys.estimated_document_count()
        return list(found), total

    def set_secrets(self, key_id: str, secrets: list[Document], session: Session) -> Document | None:
        """Returns the key as it is then; None when there is none. Raises: DuplicatePrefix."""
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
        """Delete all of an owner's keys. Returns how many there were."""
        return self._keys.delete_many({"owner": owner}, session=session).deleted_count

    def note_use(self, key: Document, every: timedelta) -> None:
        """Note that it is in use; one write per ``every``, however many use it at once."""
        last: datetime | None = key["last_used_at"]
        if last is None or now() - last >= every:
            self._uses.update_one(
                {"_id": key["_id"], "last_used_at": last}, {"$set": {"last_used_at": now()}}
            )
