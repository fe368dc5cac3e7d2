"""Uploads in parts: each part's chunks are written where the published blob will have them.

A part is a whole number of chunks, so part ``n`` begins at chunk ``n * chunks_per_part`` of the blob, and
nothing is copied when the upload is completed. ``part_uploads`` has a document per upload, by the blob's id:

    state          open → completing → completed, or aborted
    parts          n → {sha256, size_bytes} of every part whose chunks are all journaled
    writing        n → the attempt that writes this part now
    attempts       how many attempts there were, of any part: a fencing number
    completing     {token, until}: whose turn it is to complete it, by the database's own time

Two writers of one part cannot mix: a chunk carries the number of its attempt and yields to a higher one only,
and only the last attempt that began is noted.
"""

import uuid
from collections.abc import Iterable

from bson import ObjectId
from bson.binary import Binary
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.states import UploadState
from model_service.storage.blobs.chunks import Chunks, chunk_count, chunk_document
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Document, Session, now

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

    def insert(self, document: Document, session: Session) -> None:
        """Store a new upload, and keep the sweep from its chunks until it expires."""
        note = {"_id": document["_id"], "started_at": now(), "expires_at": document["expires_at"]}
        self._db.uploads.insert_one(note, session=session)
        self._uploads.insert_one(document, session=session)

    def get(self, upload_id: ObjectId) -> Document | None:
        return self._uploads.find_one({"_id": upload_id})

    def claim(self, upload_id: ObjectId, n: int) -> int | None:
        """Begin an attempt at a part and forget what was noted of it. None: the upload takes no parts."""
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
        """Store the bytes as chunks from ``first_chunk`` on; their sha256 and how many they are.

        What ends it early removes what this attempt wrote.

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
        """Remove what this attempt wrote of a part of that size."""
        end = first_chunk + chunk_count(size_bytes)
        part = {"files_id": upload_id, "n": {"$gte": first_chunk, "$lt": end}}
        self._db.chunks.delete_many({**part, "attempt": attempt})

    def note_part(self, upload_id: ObjectId, n: int, attempt: int, sha256: str, size_bytes: int) -> bool:
        """The part is there. False when a later attempt began, or the upload takes no parts any more."""
        noted = self._uploads.update_one(
            {"_id": upload_id, "state": UploadState.OPEN, f"writing.{n}": attempt},
            {
                "$set": {f"parts.{n}": {"sha256": sha256, "size_bytes": size_bytes}},
                "$unset": {f"writing.{n}": ""},
            },
        )
        return noted.matched_count == 1

    def begin_completion(self, upload_id: ObjectId) -> str | None:
        """A token for completing it; None when a part is missing, somebody else does, or it is too late.

        The holder of the token renews it; another may take over a token that was not renewed.
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
        """False when it is somebody else's turn."""
        renewed = self._uploads.update_one(
            self._mine(upload_id, token),
            [{"$set": {"completing": {"token": token, "until": from_now(COMPLETING_LEASE_S)}}}],
        )
        return renewed.matched_count == 1

    def reopen(self, upload_id: ObjectId, token: str, damaged: Iterable[int] = ()) -> None:
        """Back to taking parts, without those that are damaged."""
        unset = {"completing": "", **{f"parts.{n}": "" for n in damaged}}
        self._uploads.update_one(
            self._mine(upload_id, token), {"$set": {"state": UploadState.OPEN}, "$unset": unset}
        )

    def finish(self, upload_id: ObjectId, token: str, file: Document, session: Session) -> bool:
        """Completed, in the transaction that publishes the blob. False when it is somebody else's turn."""
        finished = self._uploads.update_one(
            self._mine(upload_id, token),
            {"$set": {"state": UploadState.COMPLETED, "file": file}, "$unset": {"completing": ""}},
            session=session,
        )
        return finished.matched_count == 1

    def abort(self, upload_id: ObjectId) -> bool:
        """Take no more parts and remove those that came. False when it is being completed, or was.

        A part that is written at this moment removes itself; the note stays for the sweep, in case it cannot.
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
        """Whatever chunks are there after the safety window belong to nobody."""
        self._db.uploads.update_one(
            {"_id": upload_id}, {"$set": {"started_at": now()}, "$unset": {"expires_at": ""}}, upsert=True
        )

    @staticmethod
    def _mine(upload_id: ObjectId, token: str) -> Document:
        return {"_id": upload_id, "state": UploadState.COMPLETING, "completing.token": token}
