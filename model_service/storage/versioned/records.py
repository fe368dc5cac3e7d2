"""A collection of documents with a name and a revision, and the only way to change one.

It stores models, datasets and training jobs. Every change goes through ``insert``, ``change`` or ``remove``,
in a transaction of the caller, because it involves more than the document: the ``revision`` counts the
changes, the audit log records who made them, and a subclass adds what else changes with its documents.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import ClassVar, Generic, NamedTuple, TypeVar

from bson import ObjectId
from bson import encode as bson_encode
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import D, Described, Fields, changed, without
from model_service.storage.common.pages import page_of

T = TypeVar("T", bound=Described)
Id = TypeVar("Id", bound=Hashable)


class DuplicateVersion(Exception):
    """(name, version) is taken."""


class Change(NamedTuple, Generic[D]):
    before: D
    after: D


class Records(Generic[T, Id]):
    # The resource type in the audit log.
    kind: ClassVar[str]
    # Fields with partial indexes, which do not contain documents without the field.
    absent_when_empty: ClassVar[tuple[str, ...]] = ()

    def __init__(self, collection: Collection[T], audit: Audit) -> None:
        self._records = collection
        self._audit = audit

    def get(self, record_id: Id, session: Session | None = None) -> T | None:
        return self._records.find_one({"_id": record_id}, session=session)

    def get_all(self, record_ids: Iterable[Id]) -> list[T]:
        """Return the documents that exist among these ids, sorted by id."""
        wanted = {"_id": {"$in": list(record_ids)}}
        return list(self._records.find(wanted, sort=[("_id", 1)]))

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[T], int]:
        """Return a page, newest first, and the number of matches; see ``page_of``."""
        return page_of(self._records, query, skip, limit)

    def insert(
        self, document: T, session: Session, *, action: str = "created", details: Fields | None = None
    ) -> None:
        """Store a new document.

        Args:
            document: complete, with its ``_id`` and ``revision``.
            action, details: for the audit log.

        Raises:
            DuplicateVersion: the version exists, in a collection with unique versions.
        """
        try:
            self._records.insert_one(document, session=session)
        except DuplicateKeyError as exc:
            raise self._duplicate(exc) from None
        self._finish(action, None, document, session, details or {})

    def change(
        self,
        record_id: Id,
        edit: Callable[[T], Fields],
        session: Session,
        *,
        action: str = "updated",
        details: Fields | None = None,
    ) -> Change[T] | None:
        """Change a document as ``edit`` decides; None if there is none.

        If no value changes, nothing is written and the revision stays. Two transactions that change the same
        document cannot both commit: the later one is aborted, and runs again.

        Args:
            edit: returns the fields with new values, given the present document. None is stored as null, but
                empty fields of ``absent_when_empty`` are removed. An error that it raises aborts the
                transaction.
            action, details: for the audit log; default of ``details``: the names of the changed fields.

        Raises:
            DuplicateVersion, or an error of the subclass: another document has a value that must be unique.
        """
        before = self.get(record_id, session)
        if before is None:
            return None
        values: Fields = before
        edited = edit(before)
        absent = {field for field in self.absent_when_empty if field in edited and not edited[field]}
        changes = {
            field: value
            for field, value in edited.items()
            if (field in values if field in absent else field not in values or not same(values[field], value))
        }
        if not changes:
            return Change(before, before)
        fields = sorted(changes)
        changes |= {"revision": before["revision"] + 1, "updated_at": now()}
        after = without(changed(before, changes), absent)
        derived = {
            field: value for field, value in self._derived(after).items() if values.get(field) != value
        }
        after = changed(after, derived)
        update: dict[str, Fields] = {"$set": without(changes | derived, absent)}
        if absent:
            update["$unset"] = dict.fromkeys(absent, "")
        try:
            self._records.update_one({"_id": record_id}, update, session=session)
        except DuplicateKeyError as exc:
            raise self._duplicate(exc) from None
        self._finish(action, before, after, session, {"fields": fields} if details is None else details)
        return Change(before, after)

    def remove(self, record_id: Id, session: Session) -> T | None:
        """Remove a document and return it; the caller handles what it references. None if there is none."""
        gone = self._records.find_one_and_delete({"_id": record_id}, session=session)
        if gone is not None:
            self._finish("deleted", gone, None, session, self._details_of_removal(gone))
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

    # What a subclass may add.

    def _derived(self, document: T) -> Fields:
        """Return the fields that are computed from the others."""
        return {}

    def _duplicate(self, exc: DuplicateKeyError) -> Exception:
        """Return the error for a value that another document has."""
        return DuplicateVersion()

    def _details_of_removal(self, document: T) -> Fields:
        """Return the details of a removal in the audit log."""
        return {}

    def _finish(
        self, action: str, before: T | None, after: T | None, session: Session, details: Fields
    ) -> None:
        """Write what changes with a document, in its transaction, after the document.

        Args:
            before, after: None if the document is new, or removed.
        """
        document = before if after is None else after
        assert document is not None
        fields: Fields = document
        self._audit.record(
            action, self.kind, fields["_id"], session=session, name=document["name"], details=details
        )


def same(one: object, other: object) -> bool:
    """Compare by stored form, since 1, 1.0 and True are equal in Python."""
    return bson_encode({"": one}) == bson_encode({"": other})
