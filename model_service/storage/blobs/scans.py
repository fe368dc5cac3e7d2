"""Models with files to scan, and the scan verdicts.

A verdict is about bytes: it is stored with the blob, and copied to the entry of every file with these bytes.
The note that a model has files to scan is written in the transaction that stores them.
"""

from datetime import UTC, datetime

from bson import ObjectId
from pymongo import ReturnDocument

from model_service.storage.blobs.documents import Scan
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import StoredFile, StoredId, Verdict
from model_service.tracing import current

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 200


class Scans:
    def __init__(self, database: Database) -> None:
        self._notes = database.scans
        self._models, self._deleted_models = database.models, database.deleted_models
        self._files = database.files

    def note(self, model_id: StoredId, session: Session | None = None) -> None:
        """Record that a file of this model was stored, so that a worker scans it later."""
        trace = current()
        latest = {"attempts": 0, **({} if trace is None else {"traceparent": trace.traceparent})}
        noted = {"$inc": {"asked": 1}, "$set": latest, "$setOnInsert": {"leased_until": _NEVER}}
        self._notes.update_one({"_id": model_id}, noted, upsert=True, session=session)

    def look_again(self, model_ids: list[StoredId], session: Session) -> None:
        """Delete the verdicts on these models' files and record the models for a new scan."""
        self._models.update_many(
            {"_id": {"$in": model_ids}}, {"$unset": {"files.$[].scan": ""}}, session=session
        )
        for model_id in model_ids:
            self.note(model_id, session)

    def waiting(self) -> list[str]:
        """Return the models that wait for a scan and that no worker has leased."""
        free = {"$expr": {"$lt": ["$leased_until", "$$NOW"]}}
        found = self._notes.find(free, {"_id": True}, sort=[("leased_until", 1)], limit=_AT_ONCE)
        return [str(note["_id"]) for note in found]

    def count_waiting(self) -> int:
        free = {"$expr": {"$lt": ["$leased_until", "$$NOW"]}}
        return self._notes.count_documents(free, hint=[("leased_until", 1)])

    def begin(self, model_id: str, lease_s: float) -> Scan | None:
        """Lease the model for this time and count an attempt. None if it is leased or does not wait."""
        free = {"_id": ObjectId(model_id), "$expr": {"$lt": ["$leased_until", "$$NOW"]}}
        attempts = {"$add": ["$attempts", 1]}
        return self._notes.find_one_and_update(
            free,
            [{"$set": {"leased_until": from_now(lease_s), "attempts": attempts}}],
            return_document=ReturnDocument.AFTER,
        )

    def end(self, note: Scan) -> None:
        """Finish the scan of a model; if a file arrived meanwhile, the model waits again."""
        self._notes.delete_one({"_id": note["_id"], "asked": note["asked"]})
        self.put_back(note)

    def put_back(self, note: Scan) -> None:
        """Let the model wait again."""
        self._notes.update_one({"_id": note["_id"]}, {"$set": {"leased_until": _NEVER}})

    def unscanned(self, model_id: StoredId) -> list[StoredFile]:
        """Return the entries of the model's unscanned files; models in the trash are included."""
        query, fields = {"_id": model_id}, {"files": True}
        found = self._models.find_one(query, fields) or self._deleted_models.find_one(query, fields)
        return [file for file in found["files"] if "scan" not in file] if found is not None else []

    def finding(self, blob_id: StoredId) -> Verdict | None:
        """Return the stored verdict on these bytes."""
        found = self._files.find_one({"_id": blob_id}, {"metadata.scan": True})
        return found["metadata"].get("scan") if found is not None else None

    def record(self, model_id: StoredId, file: StoredFile, finding: Verdict) -> None:
        """Store the verdict at the file's entry, if the file is unchanged, and with its bytes.

        A verdict without ``scanners`` is not stored with the bytes: equal bytes are scanned again if a model
        stores them next.

        The model's revision stays the same, as the model did not change. ``scans`` invalidates caches.
        """
        if finding.get("scanners"):
            self._files.update_one({"_id": file["file_id"]}, {"$set": {"metadata.scan": finding}})
        same = {"$elemMatch": {"path": file["path"], "file_id": file["file_id"]}}
        query = {"_id": model_id, "files": same}
        update = {"$set": {"files.$.scan": finding}, "$inc": {"scans": 1}}
        self._models.update_one(query, update)
        self._deleted_models.update_one(query, update)
