"""A collection of named versions with files: models and datasets.

(name, version) is unique, and the number of a removed version is never given to another one.
"""

from collections.abc import Callable
from typing import TypeVar

from bson import ObjectId
from pymongo.collection import Collection

from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields, FileHolder, StoredId
from model_service.storage.common.file_entries import FilesEdit, change_details, change_files, find_for_file
from model_service.storage.common.names import names_near
from model_service.storage.versioned.records import Change, DuplicateVersion, Records
from model_service.storage.versioned.version_numbers import VersionNumbers

H = TypeVar("H", bound=FileHolder)


class RetiredVersion(DuplicateVersion):
    """(name, version) belongs to a removed version: in the trash, or purged."""


class Versions(Records[H, StoredId]):
    def __init__(self, collection: Collection[H], audit: Audit, numbers: VersionNumbers) -> None:
        super().__init__(collection, audit)
        self._numbers = numbers

    @staticmethod
    def new_id() -> ObjectId:
        return ObjectId()

    def find(self, query: Fields, session: Session | None = None) -> H | None:
        """Return the matching document; if several versions match, the highest."""
        order = None if "_id" in query else [("version_order", -1)]
        return self._records.find_one(query, sort=order, session=session)

    def find_for_file(self, query: Fields, path: str | None) -> H | None:
        """Like ``find``, with the files that a change at the path may affect; see ``file_entries``."""
        order = [] if "_id" in query else [{"$sort": {"version_order": -1}}]
        return find_for_file(self._records, [{"$match": query}, *order, {"$limit": 1}], path)

    def newest_version_order(self, name: str, *, below: int | None = None) -> int | None:
        """Return the highest version that the name has or ever had, below a bound if given."""
        return self._numbers.newest(self.kind, self._records, name, below=below)

    def names_near(self, name: str) -> list[str]:
        return names_near(self._records, name)

    def insert(
        self, document: H, session: Session, *, action: str = "created", details: Fields | None = None
    ) -> None:
        """Store a new version. The audit log has its number, unless there are other ``details``.

        Raises:
            DuplicateVersion: the name has that version already.
            RetiredVersion: a removed version of the name had that number.
        """
        if self._numbers.given(self.kind, [document], session):
            raise RetiredVersion
        super().insert(document, session, action=action, details=details or {"version": document["version"]})

    def change_file(
        self,
        record_id: StoredId,
        path: str,
        edit: Callable[[H], FilesEdit],
        session: Session,
        *,
        action: str,
    ) -> Change[H] | None:
        """Change the file at a path; see ``change_files``. Derived fields do not depend on files."""
        changed = change_files(self._records, record_id, path, edit, session)
        if changed is None:
            return None
        before, after = changed
        if after is not before:
            self._finish(action, before, after, session, change_details(before, after, path))
        return Change(before, after)

    def _finish(
        self, action: str, before: H | None, after: H | None, session: Session, details: Fields
    ) -> None:
        if before is not None and after is None:
            self._numbers.note(self.kind, before, session)
        super()._finish(action, before, after, session, details)
