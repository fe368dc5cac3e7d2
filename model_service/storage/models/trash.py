"""The deleted_models collection: deleted versions that can be restored, with references to their blobs.

A version is in ``models`` or here, never in both, as it moves in one transaction. So other queries need not
consider the trash.
"""

from collections.abc import Collection
from datetime import timedelta

from bson import ObjectId

from model_service.actor import actor
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.blobs.removed_files import RELEASED_AT_ONCE, RemovedFiles
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.common.outbox import Outbox
from model_service.storage.common.pages import page_of, within
from model_service.storage.models.documents import DeletedModel, Model, deleted, restored
from model_service.storage.models.events import purged
from model_service.storage.models.models import Models

LAST_DELETED_FIRST = [("deleted_at", -1), ("_id", -1)]


class Trash:
    def __init__(
        self,
        database: Database,
        models: Models,
        blobs: Blobs,
        removed_files: RemovedFiles,
        audit: Audit,
        outbox: Outbox,
    ) -> None:
        self._db = database
        self._deleted = database.deleted_models
        self._models = models
        self._blobs = blobs
        self._removed_files = removed_files
        self._audit = audit
        self._outbox = outbox

    def get(self, model_id: ObjectId, session: Session | None = None) -> DeletedModel | None:
        return self._deleted.find_one({"_id": model_id}, session=session)

    def find(self, query: Fields) -> DeletedModel | None:
        """Return the matching document; if several match, the highest version, then the last deleted."""
        return self._deleted.find_one(query, sort=[("version_order", -1), ("deleted_at", -1)])

    def page(self, namespaces: list[str] | None, skip: int, limit: int) -> tuple[list[DeletedModel], int]:
        """Return a page of these namespaces or of all, last deleted first, and the total number."""
        return page_of(self._deleted, within(namespaces), skip, limit, order=LAST_DELETED_FIRST)

    def put(self, model_id: ObjectId, session: Session) -> Model | None:
        """Move a model to the trash; None if there is none."""
        model = self._models.remove(model_id, session)
        if model is None:
            return None
        self._deleted.insert_one(deleted(model, actor().name, now()), session=session)
        return model

    def take(self, model_id: ObjectId, session: Session, *, without: Collection[str] = ()) -> Model | None:
        """Move a model back, with those of its aliases that no other version has now.

        Returns None if it is not in the trash, or if a purge has begun to release its files.

        Args:
            without: aliases that it does not get back.

        Raises:
            DuplicateVersion: the name has that version again.
            DuplicateAlias: another version got an alias meanwhile; try again.
        """
        whole = {"_id": model_id, "purging": {"$exists": False}}
        gone = self._deleted.find_one_and_delete(whole, session=session)
        if gone is None:
            return None
        aliases = [alias for alias in gone.get("aliases", ()) if alias not in without]
        free = self._models.free_aliases(gone["name"], aliases, session) if aliases else []
        model = restored(gone, free, now())
        self._models.insert(model, session, action="restored")
        return model

    def purge(self, model_id: ObjectId) -> DeletedModel | None:
        """Remove a deleted model permanently and release its blobs; None if it is not in the trash.

        Very many files take several transactions. Each releases the files that it removes from the
        document, so an interrupted purge can run again.
        """
        while True:
            gone, complete = self._db.transaction(lambda session: self._purge_step(model_id, session))
            if complete:
                return gone

    def _purge_step(self, model_id: ObjectId, session: Session) -> tuple[DeletedModel | None, bool]:
        model = self.get(model_id, session)
        if model is None:
            return None, True
        if self._removed_files.purge_of("model", model_id, session):
            return model, False
        files = model["files"]
        self._blobs.release_all((file["file_id"] for file in files[:RELEASED_AT_ONCE]), session)
        if len(files) > RELEASED_AT_ONCE:
            rest = {"files": files[RELEASED_AT_ONCE:], "purging": True}
            self._deleted.update_one({"_id": model_id}, {"$set": rest}, session=session)
            return model, False
        self._deleted.delete_one({"_id": model_id}, session=session)
        details = {"version": model["version"]}
        self._audit.record("purged", "model", model_id, session=session, name=model["name"], details=details)
        self._outbox.record(lambda: [purged(model)], session)
        return model, True

    def purge_deleted(self, older_than_s: float) -> int:
        """Permanently remove models deleted earlier than this; returns their number. Can run concurrently."""
        cutoff = now() - timedelta(seconds=older_than_s)
        expired = self._deleted.find({"deleted_at": {"$lt": cutoff}}, {"_id": True})
        return sum(self.purge(model["_id"]) is not None for model in expired)
