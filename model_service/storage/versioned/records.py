"""A collection of documents with a name and a revision, and the only way to change one.

It stores datasets and training jobs. Every change goes through ``insert``, ``change`` or ``remove``, in a
transaction of the caller, so that the revision counts it and the audit log records who made it.
"""

from collections.abc import Callable, Iterable
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from model_service.actor import namespace_of
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Document, Session, now
from model_service.storage.common.file_entries import FilesEdit, change_details, change_files, find_for_file
from model_service.storage.common.pages import page_of
from model_service.storage.models.models import Change, DuplicateVersion, same


class Records:
    def __init__(self, database: Database, collection: Collection[Document], kind: str) -> None:
        self._records = collection
        self._audit = Audit(database)
        self._kind = kind

    def get(self, record_id: Any, session: Session | None = None) -> Document | None:
        return self._records.find_one({"_id": record_id}, session=session)

    def get_all(self, record_ids: Iterable[Any]) -> list[Document]:
        """Return the existing documents with these ids, in the order of ids."""
        wanted = {"_id": {"$in": list(record_ids)}}
        return list(self._records.find(wanted, sort=[("_id", 1)]))

    def page(self, query: Document, skip: int, limit: int) -> tuple[list[Document], int]:
        """Return a page, newest first, and the number of matches; see ``page_of``."""
        return page_of(self._records, query, skip, limit)

    def insert(self, document: Document, session: Session, *, details: Document | None = None) -> None:
        """Store a new document with its ``_id``; the namespace and revision 1 are set on ``document``.

        Raises:
            DuplicateVersion: the version exists, in a collection with unique versions.
        """
        document |= {"namespace": namespace_of(document["name"]), "revision": 1}
        try:
            self._records.insert_one(document, session=session)
        except DuplicateKeyError:
            raise DuplicateVersion from None
        self._record("created", document, session, details or {})

    def change(self, record_id: Any, edit: Callable[[Document], Document], session: Session) -> Change | None:
        """Change a document as ``edit`` decides; None if there is none. See ``Models.change``."""
        before = self.get(record_id, session)
        if before is None:
            return None
        changes = {
            field: value
            for field, value in edit(before).items()
            if field not in before or not same(before[field], value)
        }
        if not changes:
            return Change(before, before)
        fields = sorted(changes)
        changes |= {"revision": before["revision"] + 1, "updated_at": now()}
        self._records.update_one({"_id": record_id}, {"$set": changes}, session=session)
        after = before | changes
        self._record("updated", after, session, {"fields": fields})
        return Change(before, after)

    def find_for_file(self, query: Document, path: str | None) -> Document | None:
        """Like ``find``, with the files that a change at the path may affect; see ``file_entries``."""
        stages: list[Document] = [{"$match": query}, {"$sort": {"version_order": -1}}, {"$limit": 1}]
        return find_for_file(self._records, stages, path)

    def change_file(
        self,
        record_id: Any,
        path: str,
        edit: Callable[[Document], FilesEdit],
        session: Session,
        *,
        action: str,
    ) -> Change | None:
        """Change the file at a path, in a collection with files; see ``change_files``."""
        changed = change_files(self._records, record_id, path, edit, session)
        if changed is None:
            return None
        before, after = changed
        if after is not before:
            self._record(action, after, session, change_details(before, after, path))
        return Change(before, after)

    def remove(self, record_id: Any, session: Session) -> Document | None:
        """Remove a document and return it; the caller handles what it references. None if there is none."""
        gone = self._records.find_one_and_delete({"_id": record_id}, session=session)
        if gone is not None:
            self._record("deleted", gone, session, {})
        return gone

    def hold(self, record_ids: Iterable[Any], session: Session) -> bool:
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

    def _record(self, action: str, document: Document, session: Session, details: Document) -> None:
        self._audit.record(
            action, self._kind, document["_id"], session=session, name=document["name"], details=details
        )
