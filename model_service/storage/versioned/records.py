"""A collection of documents with a name and a revision, and the only way to change one.

It stores datasets and training jobs. Every change goes through ``insert``, ``change`` or ``remove``, in a
transaction of the caller, so that the revision counts it and the audit log records who made it.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Described, Fields, changed
from model_service.storage.common.pages import page_of
from model_service.storage.models.models import Change, DuplicateVersion, same

T = TypeVar("T", bound=Described)
Id = TypeVar("Id", bound=Hashable)


class Records(Generic[T, Id]):
    def __init__(self, collection: Collection[T], kind: str, audit: Audit) -> None:
        self._records = collection
        self._kind = kind
        self._audit = audit

    def get(self, record_id: Id, session: Session | None = None) -> T | None:
        return self._records.find_one({"_id": record_id}, session=session)

    def get_all(self, record_ids: Iterable[Id]) -> list[T]:
        """Return the existing documents with these ids, in the order of ids."""
        wanted = {"_id": {"$in": list(record_ids)}}
        return list(self._records.find(wanted, sort=[("_id", 1)]))

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[T], int]:
        """Return a page, newest first, and the number of matches; see ``page_of``."""
        return page_of(self._records, query, skip, limit)

    def insert(self, document: T, session: Session, *, details: Fields | None = None) -> None:
        """Store a new document.

        Raises:
            DuplicateVersion: the version exists, in a collection with unique versions.
        """
        try:
            self._records.insert_one(document, session=session)
        except DuplicateKeyError:
            raise DuplicateVersion from None
        self._record("created", document, session, details or {})

    def change(self, record_id: Id, edit: Callable[[T], Fields], session: Session) -> Change[T] | None:
        """Change a document as ``edit`` decides; None if there is none. See ``Models.change``."""
        before = self.get(record_id, session)
        if before is None:
            return None
        values: Fields = before
        changes = {
            field: value
            for field, value in edit(before).items()
            if field not in values or not same(values[field], value)
        }
        if not changes:
            return Change(before, before)
        fields = sorted(changes)
        changes |= {"revision": before["revision"] + 1, "updated_at": now()}
        self._records.update_one({"_id": record_id}, {"$set": changes}, session=session)
        after = changed(before, changes)
        self._record("updated", after, session, {"fields": fields})
        return Change(before, after)

    def remove(self, record_id: Id, session: Session) -> T | None:
        """Remove a document and return it; the caller handles what it references. None if there is none."""
        gone = self._records.find_one_and_delete({"_id": record_id}, session=session)
        if gone is not None:
            self._record("deleted", gone, session, {})
        return gone

    def hold(self, record_ids: Iterable[Id], session: Session) -> bool:
        """Lock documents against removal until the commit. Returns False if one of them is missing.

        A transaction conflicts only with writes to the same documents, so this writes to them. A concurrent
        removal, which has found no references, then conflicts and has to run again.
        """
        wanted = set(record_ids)
        if not wanted:
            return True
        held = self._records.update_many(
            {"_id": {"$in": list(wanted)}}, {"$set": {"held": ObjectId()}}, session=session
        )
        return held.matched_count == len(wanted)

    def _record(self, action: str, document: T, session: Session, details: Fields) -> None:
        fields: Fields = document
        self._audit.record(
            action, self._kind, fields["_id"], session=session, name=document["name"], details=details
        )
