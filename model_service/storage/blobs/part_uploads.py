"""Uploads in parts: each part's chunks are written where the published blob will have them.

A part is a whole number of chunks, so part ``n`` begins at chunk ``n * chunks_per_part`` of the blob, and
completing the upload copies nothing. ``part_uploads`` has a document per upload, by the blob's id:

    state          open → completing → completed, or aborted
    parts          n → {sha256, size_bytes} of every part whose chunks are all journaled
    writing        n → the attempt that writes this part now
    attempts       the number of attempts, for all parts together: a fencing number
    completing     {token, until}: the lease of the request that completes it, by the database's clock

Two writers of one part cannot mix: a chunk has the number of its attempt and is replaced only by a higher
one, and only the attempt that began last can record the part.
"""

import uuid
from collections.abc import Iterable

from bson import ObjectId
from bson.binary import Binary
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.states import UploadState
from model_service.storage.blobs.chunks import Chunks, chunk_count, chunk_document
from model_service.storage.blobs.documents import PartUpload, Upload
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, StoredFile

COMPLETING_LEASE_S = 30.0


class Superseded(Exception):
    """A later attempt at the same part has begun."""


class PartUploads:
    def __init__(self, database: Database, chunks: Chunks) -> None:
        self._db = database
        self._chunks = chunks
        self._uploads = database.part_uploads

    @staticmethod
    def new_id() -> ObjectId:
        return ObjectId()

    def insert(self, document: PartUpload, session: Session) -> None:
        """Store a new upload, and record its chunks for the sweep with its expiry."""
        note: Upload = {
            "_id": document["_id"],
            "started_at": now(),
            "expires_at": document["expires_at"],
        }
        self._db.uploads.insert_one(note, session=session)
        self._uploads.insert_one(document, session=session)

    def get(self, upload_id: ObjectId) -> PartUpload | None:
        return self._uploads.find_one({"_id": upload_id})

    def claim(self, upload_id: ObjectId, n: int) -> int | None:
        """Begin an attempt at a part and delete the part's record. None: the upload accepts no parts."""
        claimed = self._uploads.find_one_and_update(
            {"_id": upload_id, "state": UploadState.OPEN, "expires_at": {"$gt": now()}},
            [
                {"$set": {"attempts": {"$add": ["$attempts", 1]}}},
                {"$set": {f"writing.{n}": "$attempts"}},
                {"$unset": f"parts.{n}"},
            ],
            projection={"attempts": True},
            return_document=ReturnDocument.AFTER,
        )
        return None if claimed is None else int(claimed["attempts"])

    def write(
        self,
        upload_id: ObjectId,
        first_chunk: int,
        attempt: int,
        pieces: Iterable[bytes],
        *,
        limit_bytes: int,
    ) -> tuple[str, int]:
        """Store the bytes as chunks from ``first_chunk`` on, and return their sha256 and size.

        On any error, the chunks of this attempt are removed.

        Raises:
            SizeLimitExceeded: more than ``limit_bytes``.
            Superseded: a later attempt writes these chunks.
        """
        try:
            return self._chunks.each(
                pieces,
                lambda n, chunk: self._put(upload_id, n, attempt, chunk),
                limit_bytes=limit_bytes,
                first=first_chunk,
            )
        except BaseException:
            self.discard_attempt(upload_id, first_chunk, limit_bytes, attempt)
            raise

    def _put(self, upload_id: ObjectId, n: int, attempt: int, chunk: list[memoryview]) -> None:
        try:
            self._db.chunks.insert_one(chunk_document(upload_id, n, chunk, attempt=attempt))
        except DuplicateKeyError:
            replaced = self._db.chunks.update_one(
                {"files_id": upload_id, "n": n, "attempt": {"$lt": attempt}},
                {"$set": {"data": Binary(b"".join(chunk)), "attempt": attempt}},
            )
            if replaced.matched_count == 0:
                raise Superseded from None

    def discard_attempt(self, upload_id: ObjectId, first_chunk: int, size_bytes: int, attempt: int) -> None:
        """Remove the chunks that this attempt wrote for a part of that size."""
        end = first_chunk + chunk_count(size_bytes)
        part = {"files_id": upload_id, "n": {"$gte": first_chunk, "$lt": end}}
        self._db.chunks.delete_many({**part, "attempt": attempt})

    def note_part(self, upload_id: ObjectId, n: int, attempt: int, sha256: str, size_bytes: int) -> bool:
        """Record a part as complete. False: a later attempt has begun, or the upload accepts no parts."""
        noted = self._uploads.update_one(
            {"_id": upload_id, "state": UploadState.OPEN, f"writing.{n}": attempt},
            {
                "$set": {f"parts.{n}": {"sha256": sha256, "size_bytes": size_bytes}},
                "$unset": {f"writing.{n}": ""},
            },
        )
        return noted.matched_count == 1

    def begin_completion(self, upload_id: ObjectId) -> str | None:
        """Return a token for completing the upload.

        Returns None if parts are missing, another request completes the upload, or the upload has expired.
        The holder calls ``renew_completion`` within COMPLETING_LEASE_S, or another request may complete it.
        """
        token = str(uuid.uuid4())
        mine = self._uploads.update_one(
            {
                "_id": upload_id,
                "expires_at": {"$gt": now()},
                "$or": [
                    {"state": UploadState.OPEN},
                    {"state": UploadState.COMPLETING, "$expr": {"$lt": ["$completing.until", "$$NOW"]}},
                ],
                "$and": [{"$expr": {"$eq": [{"$size": {"$objectToArray": "$parts"}}, "$part_count"]}}],
            },
            [
                {
                    "$set": {
                        "state": UploadState.COMPLETING,
                        "completing": {"token": token, "until": from_now(COMPLETING_LEASE_S)},
                    }
                }
            ],
        )
        return token if mine.matched_count else None

    def renew_completion(self, upload_id: ObjectId, token: str) -> bool:
        """Renew the completion token. Returns False if another request has taken over."""
        renewed = self._uploads.update_one(
            self._mine(upload_id, token),
            [{"$set": {"completing": {"token": token, "until": from_now(COMPLETING_LEASE_S)}}}],
        )
        return renewed.matched_count == 1

    def reopen(self, upload_id: ObjectId, token: str, damaged: Iterable[int] = ()) -> None:
        """Accept parts again, and remove the records of the damaged ones."""
        unset = {"completing": "", **{f"parts.{n}": "" for n in damaged}}
        self._uploads.update_one(
            self._mine(upload_id, token), {"$set": {"state": UploadState.OPEN}, "$unset": unset}
        )

    def finish(self, upload_id: ObjectId, token: str, file: StoredFile, session: Session) -> bool:
        """Complete the upload in the transaction that publishes the blob. False: another one took over."""
        finished = self._uploads.update_one(
            self._mine(upload_id, token),
            {"$set": {"state": UploadState.COMPLETED, "file": file}, "$unset": {"completing": ""}},
            session=session,
        )
        return finished.matched_count == 1

    def abort(self, upload_id: ObjectId) -> bool:
        """Reject further parts and remove the stored ones. False if the upload is completed or completing.

        A writer removes its own part when it notices; the record for the sweep stays in case it cannot.
        """
        aborted = self._uploads.update_one(
            {"_id": upload_id, "state": {"$in": [UploadState.OPEN, UploadState.ABORTED]}},
            {"$set": {"state": UploadState.ABORTED, "parts": {}}},
        )
        if aborted.matched_count == 0:
            return False
        self.leave_to_sweep(upload_id)
        self._db.chunks.delete_many({"files_id": upload_id})
        return True

    def leave_to_sweep(self, upload_id: ObjectId) -> None:
        """Let the sweep remove all chunks that exist under the id after the safety window."""
        self._db.uploads.update_one(
            {"_id": upload_id}, {"$set": {"started_at": now()}, "$unset": {"expires_at": ""}}, upsert=True
        )

    @staticmethod
    def _mine(upload_id: ObjectId, token: str) -> Fields:
        return {"_id": upload_id, "state": UploadState.COMPLETING, "completing.token": token}
