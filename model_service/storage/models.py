"""The models collection: one document per model version."""

from bson import ObjectId
from pymongo import ReturnDocument, WriteConcern
from pymongo.errors import DuplicateKeyError

from model_service.storage.blobs import Blob
from model_service.storage.db import Database, Document, Session, now

NEWEST_FIRST = [("created_at", -1), ("_id", -1)]


class DuplicateVersion(Exception):
    """(name, version) is taken."""


class Models:
    def __init__(self, database: Database) -> None:
        self._models = database.models
        # A lost download count is no lost model: it does not wait for the journal.
        self._counters = database.models.with_options(write_concern=WriteConcern(w=1))

    def insert(self, document: Document) -> None:
        """Store a version; ``_id`` is set on the document.

        Raises:
            DuplicateVersion: its name has that version already.
        """
        try:
            self._models.insert_one(document)
        except DuplicateKeyError:
            raise DuplicateVersion from None

    def get(self, model_id: ObjectId, session: Session | None = None) -> Document | None:
        return self._models.find_one({"_id": model_id}, session=session)

    def newest_version(self, name: str) -> Document | None:
        return self._models.find_one({"name": name}, {"version_order": True}, sort=[("version_order", -1)])

    def page(self, query: Document, skip: int, limit: int) -> tuple[list[Document], int]:
        """One page, newest first, and how many match in all."""
        found = self._models.find(query, sort=NEWEST_FIRST, skip=skip, limit=limit)
        return list(found), self._models.count_documents(query)

    def count(self) -> int:
        """About how many, without reading them."""
        return self._models.estimated_document_count()

    def update(self, model_id: ObjectId, changes: Document) -> Document | None:
        return self._models.find_one_and_update(
            {"_id": model_id},
            {"$set": {**changes, "updated_at": now()}},
            return_document=ReturnDocument.AFTER,
        )

    def set_primary_file(
        self, model_id: ObjectId, blob: Blob, *, filename: str, file_format: str, session: Session
    ) -> Document | None:
        """Point the version at a published blob. Returns the document as it was before."""
        entry = blob.reference()
        return self._models.find_one_and_update(
            {"_id": model_id},
            {
                "$set": {
                    "files": [{"path": filename, **entry}],
                    "file_metadata": {**entry, "format": file_format, "filename": filename},
                    "updated_at": now(),
                }
            },
            return_document=ReturnDocument.BEFORE,
            session=session,
        )

    def count_download(self, model_id: ObjectId) -> None:
        self._counters.update_one({"_id": model_id}, {"$inc": {"download_count": 1}})

    def delete(self, model_id: ObjectId, session: Session) -> Document | None:
        return self._models.find_one_and_delete({"_id": model_id}, session=session)
