"""The bytes of a blob as GridFS chunks: hashed while they are written, read one chunk ahead.

All writes of the process share a bounded number of concurrent inserts. A read holds one chunk and perhaps the
next. So the memory of a transfer depends neither on its size nor on its client.
"""

import hashlib
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import BoundedSemaphore

from bson import ObjectId, encode
from bson.raw_bson import RawBSONDocument
from pymongo import WriteConcern
from pymongo.cursor import Cursor

from model_service import tracing
from model_service.storage.blobs.documents import Chunk
from model_service.storage.common.db import Database

CHUNK_BYTES = 2 * 1024 * 1024
# Size of the pieces of a read: small enough that buffers for slow clients stay small.
PIECE_BYTES = 256 * 1024
# Concurrent inserts of all writes in a process: enough to hide the journal's latency.
_INSERTS = 4
# Concurrent reads of chunks in a process, and prefetched chunks of all reads. Prefetching helps a few fast
# readers. Many readers keep the machine busy anyway, and read without it.
_READS = 4
_AHEAD = 4

Put = Callable[[int, list[memoryview]], object]


class SizeLimitExceeded(Exception):
    """More bytes than the limit; the written bytes are discarded."""


class BlobDamaged(Exception):
    """A published blob lacks a chunk, or a chunk is too short."""


class Chunks:
    def __init__(self, database: Database) -> None:
        self._chunks = database.chunks
        # Of spans: https://opentelemetry.io/docs/specs/semconv/database/mongodb/
        self.attributes: tracing.Attributes = {
            "db.system.name": "mongodb",
            "db.namespace": database.name,
            "db.collection.name": database.chunks.name,
        }
        self._unsafe_chunks = database.chunks.with_options(write_concern=WriteConcern(w=1))
        self._inserters = ThreadPoolExecutor(_INSERTS, thread_name_prefix="chunk-insert")
        self._may_insert = BoundedSemaphore(_INSERTS)
        self._readers = ThreadPoolExecutor(_READS, thread_name_prefix="chunk-read")
        self._may_fetch = BoundedSemaphore(_AHEAD)

    def write(self, blob_id: ObjectId, pieces: Iterable[bytes], *, limit_bytes: int) -> tuple[str, int]:
        """Store the bytes and return their sha256 and size. Raises as ``each``.

        The bytes are durable only after ``secure``: on a slow disk, journaling every chunk would take
        most of the time.
        """
        return self.each(
            pieces,
            lambda n, chunk: self._unsafe_chunks.insert_one(chunk_document(blob_id, n, chunk)),
            limit_bytes=limit_bytes,
        )

    def secure(self, blob_id: ObjectId, size_bytes: int) -> bool:
        """Wait until a majority has journaled all chunks. Returns False if a failover lost some before.

        A write without changes is acknowledged when all earlier oplog entries of the primary are durable,
        and this one goes to the chunks' shard (shard key: files_id). Chunks lost with an earlier primary
        show in the count, since chunks are inserted whole and numbered uniquely.
        """
        if not size_bytes:
            return True
        first = self._chunks.update_one({"files_id": blob_id, "n": 0}, {"$set": {"n": 0}})
        return first.matched_count == 1 and self._chunks.count_documents(
            {"files_id": blob_id}
        ) == chunk_count(size_bytes)

    def each(self, pieces: Iterable[bytes], put: Put, *, limit_bytes: int, first: int = 0) -> tuple[str, int]:
        """Call ``put(n, chunk)`` in threads, numbered from ``first``; returns sha256 and size of the bytes.

        After an error, even of ``pieces`` or ``put``, the caller must remove the stored chunks. No ``put``
        is running then.

        Raises:
            SizeLimitExceeded: more than ``limit_bytes``.
        """
        with tracing.span("gridfs write", self.attributes, kind="client") as span:
            sha256, size = self._each(pieces, put, limit_bytes, first)
            span.note({"model_service.file.size": size})
        return sha256, size

    def _each(self, pieces: Iterable[bytes], put: Put, limit_bytes: int, first: int) -> tuple[str, int]:
        digest = hashlib.sha256()
        size = 0
        under_way: deque[Future[object]] = deque()
        try:
            for n, chunk in enumerate(in_chunks(pieces), first):
                size += sum(map(len, chunk))
                if size > limit_bytes:
                    raise SizeLimitExceeded
                while under_way and under_way[0].done():
                    under_way.popleft().result()
                under_way.append(self._begin(put, n, chunk))
                for piece in chunk:
                    digest.update(piece)
            while under_way:
                under_way.popleft().result()
        finally:
            for future in under_way:
                future.exception()
        return digest.hexdigest(), size

    def _begin(self, put: Put, n: int, chunk: list[memoryview]) -> Future[object]:
        self._may_insert.acquire()
        try:
            future = self._inserters.submit(put, n, chunk)
        except BaseException:
            self._may_insert.release()
            raise
        future.add_done_callback(lambda _: self._may_insert.release())
        return future

    def read(self, blob_id: ObjectId, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes ``[start, stop)`` of a blob, in pieces of at most PIECE_BYTES.

        Raises:
            BlobDamaged: a chunk is missing or short.
        """
        attributes = {**self.attributes, "model_service.file.size": stop - start}
        return tracing.streamed("gridfs read", self._read(blob_id, start, stop), attributes, kind="client")

    def _read(self, blob_id: ObjectId, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return
        first, last = start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES
        expected = first
        for document in self._documents(blob_id, first, last):
            data = document.pop("data")
            offset = document["n"] * CHUNK_BYTES
            if document["n"] != expected or len(data) < min(CHUNK_BYTES, stop - offset):
                break
            expected += 1
            end = min(len(data), stop - offset)
            for begin in range(max(0, start - offset), end, PIECE_BYTES):
                yield data[begin : min(begin + PIECE_BYTES, end)]
            del data  # before the next chunk is fetched
        if expected != last + 1:
            raise BlobDamaged(f"blob {blob_id}: chunk {expected} is missing or short")

    def _documents(self, blob_id: ObjectId, first: int, last: int) -> Iterator[Chunk]:
        """Yield the chunks in order; the next is fetched while the reader processes the present one."""
        with self._chunks.find(
            {"files_id": blob_id, "n": {"$gte": first, "$lte": last}},
            projection={"_id": False, "n": True, "data": True},
            sort=[("n", 1)],
            limit=last - first + 1,  # so that the server closes the cursor with the last one
            batch_size=1,
        ) as cursor:
            ahead: Future[Chunk | None] | None = None
            try:
                for n in range(first, last + 1):
                    coming, ahead = ahead, None
                    if coming is None:  # in these few threads too: a fetch takes three times a chunk's memory
                        document = self._readers.submit(_next, cursor).result()
                    else:
                        document = self._fetched(coming)
                    if document is None:
                        return
                    ahead = self._fetch(cursor) if n < last else None
                    yield document
            finally:
                if ahead is not None:  # only one thread may use a cursor: wait before it is closed
                    with suppress(Exception):
                        self._fetched(ahead)

    def _fetch(self, cursor: Cursor[Chunk]) -> "Future[Chunk | None] | None":
        """Start to fetch the next chunk. The future's result is None after the last chunk.

        Returns None, and fetches nothing, if as many chunks as allowed are prefetched.
        """
        if not self._may_fetch.acquire(blocking=False):
            return None
        try:
            return self._readers.submit(_next, cursor)
        except BaseException:
            self._may_fetch.release()
            raise

    def _fetched(self, coming: "Future[Chunk | None]") -> Chunk | None:
        try:
            return coming.result()
        finally:
            self._may_fetch.release()


def _next(cursor: Cursor[Chunk]) -> Chunk | None:
    return next(cursor, None)


def chunk_count(size_bytes: int) -> int:
    """Return the number of chunks of a blob of this size."""
    return -(-size_bytes // CHUNK_BYTES)


def chunk_document(
    blob_id: ObjectId, n: int, data: Iterable[bytes | memoryview], **more: object
) -> RawBSONDocument:
    """Return ``{_id, files_id, n, data}`` as BSON, copying the pieces of ``data`` once.

    ``more`` fields come before the data. The driver sends a raw document unchanged.

    An element is laid out as in bsonspec.org: type, name, NUL, value; ``data`` is binary of subtype 0.
    """
    pieces = list(data)
    size = sum(map(len, pieces))
    head = b"".join(
        (
            b"\x07_id\0" + ObjectId().binary,
            b"\x07files_id\0" + blob_id.binary,
            b"\x10n\0" + struct.pack("<i", n),
            encode(more)[4:-1],
            b"\x05data\0" + struct.pack("<iB", size, 0),
        )
    )
    length = struct.pack("<i", 4 + len(head) + size + 1)
    return RawBSONDocument(b"".join((length, head, *pieces, b"\0")))


def in_chunks(pieces: Iterable[bytes]) -> Iterator[list[memoryview]]:
    """Group the bytes into chunks of CHUNK_BYTES without copies; the last may be shorter, none is empty."""
    group: list[memoryview] = []
    room = CHUNK_BYTES
    for piece in pieces:
        view = memoryview(piece)
        while view:
            taken, view = view[:room], view[room:]
            group.append(taken)
            room -= len(taken)
            if not room:
                yield group
                group, room = [], CHUNK_BYTES
    if group:
        yield group
