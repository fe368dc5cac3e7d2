"""The removed_files collection: the trash of replaced and removed files, with references to their blobs."""

from collections.abc import Iterable
from datetime import timedelta

from bson import ObjectId

from model_service.actor import actor, namespace_of
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.blobs.documents import RemovedFile
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, FileHolder, StoredFile, StoredId, path_of
from model_service.storage.common.pages import page_of

LAST_REMOVED_FIRST = [("removed_at", -1), ("_id", -1)]
# Limits the number of blobs released in one transaction, which must be short.
RELEASED_AT_ONCE = 1000


class RemovedFiles:
    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._db = database
        self._removed = database.removed_files
        self._blobs = blobs

    def put(
        self,
        kind: str,
        holder: FileHolder,
        files: Iterable[StoredFile],
        session: Session,
        *,
        replaced_by: str | None,
    ) -> None:
        """Move files of a holder to the trash. ``holder`` is the document before the change."""
        primary = holder["file_metadata"]
        at, who = now(), actor().name
        entries: list[RemovedFile] = [
            {
                "_id": ObjectId(),
                "kind": kind,
                "holder_id": holder["_id"],
                "name": holder["name"],
                "version": holder["version"],
                "namespace": namespace_of(holder["name"]),
                "file": file,
                "was_primary": is_primary,
                "format": primary["format"] if primary is not None and is_primary else None,
                "replaced_by": replaced_by,
                "removed_at": at,
                "removed_by": who,
            }
            for file in files
            for is_primary in [primary is not None and file["path"] == path_of(primary)]
        ]
        if entries:
            self._removed.insert_many(entries, session=session)

    def page(self, kind: str, holder_id: StoredId, skip: int, limit: int) -> tuple[list[RemovedFile], int]:
        """Return a page of a holder's removed files, last removed first, and their number."""
        query = {"kind": kind, "holder_id": holder_id}
        return page_of(self._removed, query, skip, limit, order=LAST_REMOVED_FIRST)

    def get(self, kind: str, holder_id: StoredId, removed_id: StoredId) -> RemovedFile | None:
        return self._removed.find_one({"_id": removed_id, "kind": kind, "holder_id": holder_id})

    def take(self, removed_id: StoredId, session: Session) -> bool:
        """Remove the entry; the reference to its blob passes to the caller. False: it is gone."""
        return self._removed.delete_one({"_id": removed_id}, session=session).deleted_count == 1

    def purge(self, removed_id: StoredId) -> bool:
        """Remove the entry permanently and release its blob. False: it is gone."""
        return self._db.transaction(lambda session: self._purge({"_id": removed_id}, session)) == 1

    def purge_of(self, kind: str, holder_id: StoredId, session: Session) -> bool:
        """Remove up to RELEASED_AT_ONCE entries of a holder permanently; False: it has none."""
        return self._purge({"kind": kind, "holder_id": holder_id}, session) > 0

    def purge_removed(self, older_than_s: float) -> int:
        """Delete for good what was removed longer ago; returns the number. Safe to run concurrently."""
        return self._purge_all({"removed_at": {"$lt": now() - timedelta(seconds=older_than_s)}})

    def purge_all(self, kind: str, holder_id: StoredId) -> None:
        """Remove all entries of a holder that no longer exists."""
        self._purge_all({"kind": kind, "holder_id": holder_id})

    def _purge_all(self, query: Fields) -> int:
        total = 0
        while purged := self._db.transaction(lambda session: self._purge(query, session)):
            total += purged
        return total

    def _purge(self, query: Fields, session: Session) -> int:
        fields = {"file.file_id": True}
        found = list(self._removed.find(query, fields, limit=RELEASED_AT_ONCE, session=session))
        if found:
            ids = {"_id": {"$in": [entry["_id"] for entry in found]}}
            self._removed.delete_many(ids, session=session)
            self._blobs.release_all((entry["file"]["file_id"] for entry in found), session)
        return len(found)
