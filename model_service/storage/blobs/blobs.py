"""Content-addressed blobs in GridFS: stored once, counted by reference, published last.

A write streams bytes into chunks under a new id and hashes them. The blob is invisible until its files
document is written, in the same transaction as the document that refers to it. If the transaction finds
stored bytes with the same sha256, the new copy is dropped.

GridFS itself has no transactions and leaves chunks behind when a writer dies. So every write is recorded in
``uploads`` before its first chunk. ``sweep`` removes recorded writes, and blobs without references, once they
are older than a safety window. A small blob needs no record: its chunk is written in the transaction.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain

from bson import ObjectId
from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import PyMongoError

from model_service import tracing
from model_service.storage.blobs.chunks import (
    CHUNK_BYTES,
    BlobDamaged,
    Chunks,
    SizeLimitExceeded,
    chunk_document,
)
from model_service.storage.blobs.disk_cache import DiskCache
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import BlobReference, Fields
from model_service.storage.statistics.counters import Counters

__all__ = ["CHUNK_BYTES", "BlobDamaged", "SizeLimitExceeded"]  # re-exported for users of blobs

# Blobs up to this size are written in the publishing transaction: no record, no leftover, 3 round trips less.
INLINE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Blob:
    id: ObjectId
    sha256: str
    size_bytes: int
    # The bytes of a small blob that is not published yet.
    content: bytes | None = field(default=None, compare=False, repr=False)

    def reference(self) -> BlobReference:
        """Return the fields by which another document references this blob."""
        return {"file_id": self.id, "size_bytes": self.size_bytes, "checksum": f"sha256:{self.sha256}"}


def blob_of(reference: BlobReference) -> Blob:
    """Return the blob of a ``reference()`` in a document."""
    return Blob(reference["file_id"], reference["checksum"].removeprefix("sha256:"), reference["size_bytes"])


class WriteExpired(Exception):
    """Chunks are gone: the sweep removed them after its safety window, or a failover of MongoDB lost them."""


class Blobs:
    def __init__(
        self, database: Database, chunks: Chunks, counters: Counters, cache: DiskCache | None = None
    ) -> None:
        self._db = database
        self._counters = counters
        self._cache = cache
        self.chunks = chunks

    def write(self, pieces: Iterable[bytes], *, limit_bytes: int) -> Blob:
        """Store bytes without publishing them, in constant memory; a small blob stays in memory.

        On any error, including one of ``pieces``, the written bytes are removed.

        Raises:
            SizeLimitExceeded: more than ``limit_bytes``.
        """
        blob_id, coming = ObjectId(), iter(pieces)
        begun, ended = _begin(coming)
        if ended:
            if (size := sum(map(len, begun))) > limit_bytes:
                raise SizeLimitExceeded
            content = b"".join(begun)
            return Blob(blob_id, hashlib.sha256(content).hexdigest(), size, content)
        self._db.uploads.insert_one({"_id": blob_id, "started_at": now()})
        try:
            sha256, size = self.chunks.write(blob_id, chain(begun, coming), limit_bytes=limit_bytes)
        except BaseException:
            self._discard(blob_id)
            raise
        return Blob(blob_id, sha256, size)

    def publish(
        self,
        written: Blob,
        refer: Callable[[Blob, Session], None],
        *,
        keep: bool = False,
        described: Fields | None = None,
    ) -> Blob:
        """Publish the blob in one transaction with the document that refers to it.

        ``refer(stored, session)`` writes that document, and may run more than once. If equal bytes are stored
        already, ``stored`` has their id and not the one of ``written``, and the new copy is dropped. An error
        of ``refer`` aborts the transaction: nothing is stored, and the bytes are removed, unless ``keep``
        is set, which leaves them for another attempt.

        Args:
            described: fields of ``storage.blobs.descriptions`` for the blob, if its bytes are new.

        Raises:
            WriteExpired: the sweep or a failover removed chunks; the client must send the upload again.
        """

        def work(session: Session) -> Blob:
            stored = self._count_reference(written, session, described or {})
            refer(stored, session)
            return stored

        try:
            if written.content is None and not self.chunks.secure(written.id, written.size_bytes):
                raise WriteExpired(f"chunks of blob {written.id} were lost before it was published")
            with tracing.span("gridfs publish", self.chunks.attributes, kind="client"):
                stored = self._db.transaction(work)
        except PyMongoError:
            raise  # it may have been committed after all: the sweep finds out
        except BaseException:
            if not keep:
                self.discard(written)
            raise
        if stored.id != written.id:
            self.discard(written)
        return stored

    def _count_reference(self, blob: Blob, session: Session, described: Fields) -> Blob:
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
                    **described,
                },
            },
            upsert=True,
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        assert stored is not None  # an upsert that returns the document after it
        if stored["_id"] == blob.id:
            self._own_chunks(blob, session)
            self._counters.change_blobs(1, blob.size_bytes, session)
        return Blob(stored["_id"], blob.sha256, blob.size_bytes)

    def _own_chunks(self, blob: Blob, session: Session) -> None:
        """Remove the sweep's record of the chunks, or write the chunk of a small blob."""
        if blob.content is None:
            note = {"_id": blob.id, "swept": {"$exists": False}}
            noted = self._db.uploads.delete_one(note, session=session)
            if noted.deleted_count == 0:
                raise WriteExpired(f"blob {blob.id} was removed by a sweep before it was published")
        elif blob.content:
            self._db.chunks.insert_one(chunk_document(blob.id, 0, [blob.content]), session=session)

    def discard(self, blob: Blob) -> None:
        """Remove a written blob that will not be published."""
        if blob.content is None:
            self._discard(blob.id)

    def _discard(self, blob_id: ObjectId) -> None:
        self._db.chunks.delete_many({"files_id": blob_id})
        self._db.uploads.delete_one({"_id": blob_id})

    def retain(self, blob_id: ObjectId, session: Session) -> bool:
        """Add a reference to a published blob. Returns False if it is gone."""
        return self.retain_all([blob_id], session)

    def release(self, blob_id: ObjectId, session: Session) -> None:
        """Remove a reference. Without references, the sweep deletes the blob after the safety window."""
        self.release_all([blob_id], session)

    def retain_all(self, blob_ids: Iterable[ObjectId], session: Session) -> bool:
        """Add a reference for each id, counting repeated ids. Returns False if one of the blobs is gone."""
        counts = Counter(blob_ids)
        updates = [UpdateOne({"_id": blob_id}, recounted(count)) for blob_id, count in counts.items()]
        if not updates:
            return True
        return self._db.files.bulk_write(updates, ordered=False, session=session).matched_count == len(counts)

    def release_all(self, blob_ids: Iterable[ObjectId], session: Session) -> None:
        """``release`` for each id, counting repeated ids, in one round trip."""
        updates = [
            UpdateOne({"_id": blob_id}, recounted(-count)) for blob_id, count in Counter(blob_ids).items()
        ]
        if updates:
            self._db.files.bulk_write(updates, ordered=False, session=session)

    def read(self, blob_id: ObjectId, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes ``[start, stop)`` of a published blob, in small pieces.

        Raises:
            BlobDamaged: a chunk is missing or short.
        """
        return self.chunks.read(blob_id, start, stop)

    def send(self, blob: Blob, start: int, stop: int) -> Iterator[bytes]:
        """``read`` for a download: from the disk cache if the blob is there."""
        if self._cache is not None:
            cached = self._cache.read(blob.sha256, blob.size_bytes, start, stop)
            if cached is not None:
                return cached
            self._cache.record_miss(
                blob.sha256, blob.size_bytes, lambda: self.read(blob.id, 0, blob.size_bytes)
            )
        return self.read(blob.id, start, stop)

    def readable(self) -> bool:
        """Return whether blobs can be found and read: the index of the chunks exists."""
        return any(index["key"] == {"files_id": 1, "n": 1} for index in self._db.chunks.list_indexes())

    def sweep(self, safety_s: float) -> int:
        """Remove interrupted writes and unreferenced blobs older than ``safety_s``. Returns their number.

        Every step can run twice. After a crash between two steps, the next sweep continues.
        """
        cutoff = now() - timedelta(seconds=safety_s)
        for document in self._db.files.find({"metadata.unreferenced_at": {"$lt": cutoff}}, {"_id": True}):
            self._unpublish(document["_id"], cutoff)
        removed = 0
        # An upload in parts may take days until its ``expires_at``; its last writer gets the window too.
        old = {"started_at": {"$lt": cutoff}, "expires_at": {"$not": {"$gte": cutoff}}}
        for upload in self._db.uploads.find(old, {"_id": True}):
            # Mark it before deleting chunks: a concurrent publish either sees the mark or has won.
            claimed = self._db.uploads.update_one(old | upload, {"$set": {"swept": True}})
            if claimed.matched_count:
                self._discard(upload["_id"])
                removed += 1
        return removed

    def _unpublish(self, blob_id: ObjectId, cutoff: object) -> None:
        """Turn a blob into a recorded leftover in one transaction, so that no chunk gets lost."""

        def work(session: Session) -> None:
            gone = self._db.files.find_one_and_delete(
                {"_id": blob_id, "metadata.references": 0, "metadata.unreferenced_at": {"$lt": cutoff}},
                session=session,
            )
            if gone is not None:
                note = {"started_at": gone["metadata"]["unreferenced_at"]}
                self._db.uploads.update_one({"_id": blob_id}, {"$set": note}, upsert=True, session=session)
                self._counters.change_blobs(-1, -gone["length"], session)

        self._db.transaction(work)


def recounted(difference: int) -> list[Fields]:
    """Return the update that changes a blob's reference count; at 0, the sweep's safety window starts."""
    counted = {"$max": [0, {"$add": ["$metadata.references", difference]}]}
    unreferenced = {"$eq": ["$metadata.references", 0]}
    return [
        {"$set": {"metadata.references": counted}},
        {"$set": {"metadata.unreferenced_at": {"$cond": [unreferenced, "$$NOW", "$$REMOVE"]}}},
    ]


def _begin(pieces: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """Return the first pieces, and whether they are all and small enough to be inlined."""
    begun, size = [], 0
    for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size > INLINE_BYTES:
            return begun, False
    return begun, True
