"""Content-addressed blobs in GridFS: stored once, counted by reference, published last.

A write streams into chunks under a fresh id while it is hashed. Nobody can see it: a blob exists from the
moment its files document does, and that is written in the same transaction as the document that refers to
it. Bytes that are stored already are found by their sha256 then, and the new copy is dropped.

GridFS itself has no transactions and leaves chunks behind when a writer dies, so every write is noted in
``uploads`` before its first chunk; ``sweep`` removes what is noted there, and blobs that nothing refers to,
once they are older than a safety window.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from bson import ObjectId
from bson import encode as bson_encode
from bson.binary import Binary
from bson.raw_bson import RawBSONDocument
from pymongo import ReturnDocument
from pymongo.errors import PyMongoError

from model_service.storage.db import Database, Document, Session, now

CHUNK_BYTES = 2 * 1024 * 1024
# Inserts on their way at once: enough to hide the journal's latency. The threads are shared by all writes of
# a process, and a single write waits for its own when it has this many, which bounds its memory.
IN_FLIGHT = 4
# Chunks per round trip of a read: bounds a slow reader's memory to a few MiB.
READ_BATCH = 2


@dataclass(frozen=True)
class Blob:
    id: ObjectId
    sha256: str
    size_bytes: int

    def reference(self) -> Document:
        """How another document names this blob."""
        return {"file_id": self.id, "size_bytes": self.size_bytes, "checksum": f"sha256:{self.sha256}"}


def blob_of(reference: Document) -> Blob:
    """The blob that a document's ``reference()`` names."""
    return Blob(reference["file_id"], reference["checksum"].removeprefix("sha256:"), reference["size_bytes"])


class SizeLimitExceeded(Exception):
    """The bytes written passed the limit; they are discarded."""


class WriteExpired(Exception):
    """The write took longer than the sweep's safety window, and its chunks are gone."""


class BlobDamaged(Exception):
    """A published blob lacks a chunk, or a chunk its length."""


class Blobs:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._inserters = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="chunk-insert")

    def write(self, pieces: Iterable[bytes], *, limit_bytes: int) -> Blob:
        """Store the bytes unpublished, in constant memory.

        Whatever ends it early, an exception of ``pieces`` included, removes what was written.

        Raises:
            SizeLimitExceeded: more than ``limit_bytes``.
        """
        blob_id = ObjectId()
        self._db.uploads.insert_one({"_id": blob_id, "started_at": now()})
        try:
            sha256, size = self._write_chunks(blob_id, pieces, limit_bytes)
        except BaseException:
            self._discard(blob_id)
            raise
        return Blob(blob_id, sha256, size)

    def _write_chunks(self, blob_id: ObjectId, pieces: Iterable[bytes], limit_bytes: int) -> tuple[str, int]:
        digest = hashlib.sha256()
        size = 0
        in_flight: deque[Future[None]] = deque()
        try:
            for n, chunk in enumerate(_rechunk(pieces)):
                size += len(chunk)
                if size > limit_bytes:
                    raise SizeLimitExceeded
                if len(in_flight) == IN_FLIGHT:
                    in_flight.popleft().result()
                in_flight.append(self._inserters.submit(self._insert, blob_id, n, chunk))
                digest.update(chunk)
            while in_flight:
                in_flight.popleft().result()
        finally:
            # A failing write must not delete its chunks while another of its inserts is still on the way.
            for future in in_flight:
                future.exception()
        return digest.hexdigest(), size

    def _insert(self, blob_id: ObjectId, n: int, chunk: bytes) -> None:
        # Encoded once, here: the driver sends a raw document as it is.
        document = {"_id": ObjectId(), "files_id": blob_id, "n": n, "data": Binary(chunk)}
        self._db.chunks.insert_one(RawBSONDocument(bson_encode(document)))

    def publish(self, written: Blob, refer: Callable[[Blob, Session], None]) -> Blob:
        """Make the bytes visible in one transaction with the document that refers to them.

        ``refer(stored, session)`` writes that reference, and may run more than once. ``stored`` has another
        id than ``written`` when equal bytes were there already; the new copy is dropped then. What ``refer``
        raises ends the transaction: nothing is stored, and the bytes are removed.

        Raises:
            WriteExpired: the sweep was faster.
        """

        def work(session: Session) -> Blob:
            stored = self._count_reference(written, session)
            refer(stored, session)
            return stored

        try:
            stored = self._db.transaction(work)
        except PyMongoError:
            raise  # it may have been committed all the same: the sweep will know
        except BaseException:
            self._discard(written.id)
            raise
        if stored.id != written.id:
            self._discard(written.id)
        return stored

    def _count_reference(self, blob: Blob, session: Session) -> Blob:
        stored = self._db.files.find_one_and_update(
            {"metadata.sha256": blob.sha256},
            {
                "$inc": {"metadata.references": 1},
                "$unset": {"metadata.unreferenced_at": ""},
                "$setOnInsert": {
                    "_id": blob.id,
                    "length": blob.size_bytes,
                    "chunkSize": CHUNK_BYTES,
                    "uploadDate": now(),
                    "filename": blob.sha256,
                },
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        assert stored is not None  # an upsert that answers with the document after it
        if stored["_id"] == blob.id:
            note = {"_id": blob.id, "swept": {"$exists": False}}
            noted = self._db.uploads.delete_one(note, session=session)
            if noted.deleted_count == 0:
                raise WriteExpired(f"blob {blob.id} was swept before it was published")
        return Blob(stored["_id"], blob.sha256, blob.size_bytes)

    def discard(self, blob: Blob) -> None:
        """Remove a blob that was written and will not be published."""
        self._discard(blob.id)

    def _discard(self, blob_id: ObjectId) -> None:
        self._db.chunks.delete_many({"files_id": blob_id})
        self._db.uploads.delete_one({"_id": blob_id})

    def retain(self, blob_id: ObjectId, session: Session) -> bool:
        """One more reference to a published blob; False when it is gone."""
        updated = self._db.files.update_one(
            {"_id": blob_id},
            {"$inc": {"metadata.references": 1}, "$unset": {"metadata.unreferenced_at": ""}},
            session=session,
        )
        return updated.matched_count == 1

    def release(self, blob_id: ObjectId, session: Session) -> None:
        """One reference less; without any, the sweep takes the blob when the safety window has passed."""
        self._db.files.update_one(
            {"_id": blob_id},
            [
                {"$set": {"metadata.references": {"$max": [0, {"$subtract": ["$metadata.references", 1]}]}}},
                {
                    "$set": {
                        "metadata.unreferenced_at": {
                            "$cond": [{"$eq": ["$metadata.references", 0]}, "$$NOW", "$$REMOVE"]
                        }
                    }
                },
            ],
            session=session,
        )

    def read(self, blob_id: ObjectId, start: int, stop: int) -> Iterator[bytes]:
        """The bytes ``[start, stop)`` of a published blob, a chunk at a time.

        Raises:
            BlobDamaged: a chunk is missing or short.
        """
        if start >= stop:
            return
        first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
        expected = first
        with self._db.chunks.find(
            {"files_id": blob_id, "n": {"$gte": first, "$lte": last}},
            projection={"_id": False, "n": True, "data": True},
            sort=[("n", 1)],
            batch_size=READ_BATCH,
        ) as cursor:
            for document in cursor:
                data: bytes = document["data"]
                offset = document["n"] * CHUNK_BYTES
                if document["n"] != expected or len(data) < min(CHUNK_BYTES, stop - offset):
                    break
                expected += 1
                begin, end = max(0, start - offset), min(len(data), stop - offset)
                yield data if (begin, end) == (0, len(data)) else data[begin:end]
        if expected != last + 1:
            raise BlobDamaged(f"blob {blob_id}: chunk {expected} is missing or short")

    def readable(self) -> bool:
        """Whether the bucket's index answers: a blob can be found and read."""
        return any(index["key"] == {"files_id": 1, "n": 1} for index in self._db.chunks.list_indexes())

    def sweep(self, safety_s: float) -> int:
        """Remove interrupted writes and unreferenced blobs older than ``safety_s``; how many went.

        Every step may run twice, and a crash between two steps leaves the rest to the next sweep.
        """
        cutoff = now() - timedelta(seconds=safety_s)
        for document in self._db.files.find({"metadata.unreferenced_at": {"$lt": cutoff}}, {"_id": True}):
            self._unpublish(document["_id"], cutoff)
        removed = 0
        for upload in self._db.uploads.find({"started_at": {"$lt": cutoff}}, {"_id": True}):
            # Claimed before a chunk goes: a write that publishes itself now either sees that, or was faster.
            claimed = self._db.uploads.update_one(upload, {"$set": {"swept": True}})
            if claimed.matched_count:
                self._discard(upload["_id"])
                removed += 1
        return removed

    def _unpublish(self, blob_id: ObjectId, cutoff: object) -> None:
        """From a blob to a leftover, in one step: its chunks are never unaccounted for."""

        def work(session: Session) -> None:
            gone: Document | None = self._db.files.find_one_and_delete(
                {"_id": blob_id, "metadata.references": 0, "metadata.unreferenced_at": {"$lt": cutoff}},
                session=session,
            )
            if gone is not None:
                note = {"started_at": gone["metadata"]["unreferenced_at"]}
                self._db.uploads.update_one({"_id": blob_id}, {"$set": note}, upsert=True, session=session)

        self._db.transaction(work)


def _rechunk(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of CHUNK_BYTES; the last may be shorter."""
    buffer = bytearray()
    for piece in pieces:
        view = memoryview(piece)
        while view:
            taken = view[: CHUNK_BYTES - len(buffer)]
            view = view[len(taken) :]
            if not buffer and len(taken) == CHUNK_BYTES:
                yield bytes(taken)
                continue
            buffer += taken
            if len(buffer) == CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
    if buffer:
        yield bytes(buffer)
