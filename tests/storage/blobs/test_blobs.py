import hashlib
import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from model_service.config import Settings
from model_service.storage.blobs.blobs import (
    CHUNK_BYTES,
    INLINE_BYTES,
    Blob,
    BlobDamaged,
    Blobs,
    SizeLimitExceeded,
    WriteExpired,
)
from model_service.storage.common.db import Database, Session
from model_service.storage.stores import build_stores
from tests.waiting import wait_for

CONTENT = os.urandom(2 * CHUNK_BYTES + 12_345)
NO_LIMIT = 1 << 40


@pytest.fixture
def blobs(database: Database) -> Blobs:
    return build_stores(database).blobs


def write(blobs: Blobs, content: bytes = CONTENT, piece: int = 100_000) -> Blob:
    pieces = (content[start : start + piece] for start in range(0, len(content), piece))
    return blobs.write(pieces, limit_bytes=NO_LIMIT)


def publish(blobs: Blobs, written: Blob) -> Blob:
    return blobs.publish(written, lambda stored, session: None)


def release(database: Database, blobs: Blobs, blob: Blob) -> None:
    database.transaction(lambda session: blobs.release(blob.id, session))


def stored_chunks(database: Database) -> int:
    return database.chunks.count_documents({})


@pytest.mark.parametrize("piece", [1_000, CHUNK_BYTES, 3 * CHUNK_BYTES])
def test_what_is_written_in_any_pieces_is_read_back(database: Database, blobs: Blobs, piece: int) -> None:
    blob = publish(blobs, write(blobs, piece=piece))
    assert blob.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == CONTENT


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        (0, 0),
        (0, 1),
        (5, CHUNK_BYTES),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (2 * CHUNK_BYTES + 7, len(CONTENT)),
    ],
)
def test_any_part_can_be_read(database: Database, blobs: Blobs, start: int, stop: int) -> None:
    blob = publish(blobs, write(blobs))
    assert b"".join(blobs.read(blob.id, start, stop)) == CONTENT[start:stop]


def test_equal_bytes_are_stored_once(database: Database, blobs: Blobs) -> None:
    first = publish(blobs, write(blobs))
    second = publish(blobs, write(blobs))
    assert second == first
    assert stored_chunks(database) == 3
    assert database.uploads.count_documents({}) == 0


def test_gridfs_itself_can_read_it(database: Database, blobs: Blobs, settings: Settings) -> None:
    from gridfs import GridFSBucket

    blob = publish(blobs, write(blobs))
    bucket = GridFSBucket(database.client[settings.mongodb_db], bucket_name=settings.gridfs_bucket)
    assert bucket.open_download_stream(blob.id).read() == CONTENT


def test_a_write_past_its_limit_leaves_nothing(database: Database, blobs: Blobs) -> None:
    with pytest.raises(SizeLimitExceeded):
        blobs.write(iter([CONTENT]), limit_bytes=len(CONTENT) - 1)
    assert stored_chunks(database) == database.uploads.count_documents({}) == 0


def test_a_sender_that_breaks_off_leaves_nothing(database: Database, blobs: Blobs) -> None:
    def breaking() -> Iterator[bytes]:
        yield CONTENT
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        blobs.write(breaking(), limit_bytes=NO_LIMIT)
    assert stored_chunks(database) == database.uploads.count_documents({}) == 0


def test_a_killed_writers_chunks_are_swept_after_the_safety_window(database: Database, blobs: Blobs) -> None:
    write(blobs)  # and never published: the process was killed here
    assert blobs.sweep(safety_s=3600) == 0
    assert stored_chunks(database) == 3
    assert blobs.sweep(safety_s=-1) == 1
    assert stored_chunks(database) == database.uploads.count_documents({}) == 0


def write_until_told(settings: Settings, pipe: Connection) -> None:
    def pieces() -> Iterator[bytes]:
        yield CONTENT
        pipe.send("written")
        pipe.recv()

    build_stores(Database(settings)).blobs.write(pieces(), limit_bytes=NO_LIMIT)


def test_a_writer_that_is_killed_leaves_nothing_after_the_safety_window(
    database: Database, blobs: Blobs, settings: Settings
) -> None:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    writer = spawn.Process(target=write_until_told, args=(settings, there))
    writer.start()
    assert here.poll(30)
    assert here.recv() == "written"
    wait_for(lambda: stored_chunks(database) == 2, "the whole chunks to be stored")
    writer.kill()
    writer.join()
    assert blobs.sweep(safety_s=3600) == 0
    assert blobs.sweep(safety_s=-1) == 1
    assert stored_chunks(database) == database.uploads.count_documents({}) == 0


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES])
def test_a_small_blob_is_stored_by_the_transaction_that_publishes_it(
    database: Database, blobs: Blobs, size: int
) -> None:
    content = os.urandom(size)
    written = write(blobs, content)
    assert stored_chunks(database) == database.uploads.count_documents({}) == 0
    blobs.sweep(safety_s=-1)  # which has nothing to take from it
    blob = publish(blobs, written)
    assert blob.sha256 == hashlib.sha256(content).hexdigest()
    assert b"".join(blobs.read(blob.id, 0, size)) == content
    assert publish(blobs, write(blobs, content)) == blob
    assert stored_chunks(database) == (1 if size else 0)


def test_a_small_blob_past_its_limit_is_refused(blobs: Blobs) -> None:
    with pytest.raises(SizeLimitExceeded):
        blobs.write(iter([b"12345"]), limit_bytes=4)


def test_many_readers_at_once_each_get_all_of_it(database: Database, blobs: Blobs) -> None:
    blob = publish(blobs, write(blobs))

    def read(_: int) -> bool:
        return b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == CONTENT

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(read, range(40)))


def test_readers_that_break_off_keep_nothing_from_others(database: Database, blobs: Blobs) -> None:
    blob = publish(blobs, write(blobs))
    stopped = [blobs.read(blob.id, 0, blob.size_bytes) for _ in range(20)]  # more than may fetch ahead
    for reader in stopped:
        next(reader)
    assert b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == CONTENT
    for reader in stopped:
        reader.close()  # type: ignore[attr-defined]
    assert b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == CONTENT


def test_many_writers_at_once_and_some_that_break_off(database: Database, blobs: Blobs) -> None:
    def breaking() -> Iterator[bytes]:
        yield CONTENT
        raise ConnectionError("gone")

    def attempt(n: int) -> bool:
        if n % 2:
            with pytest.raises(ConnectionError):
                blobs.write(breaking(), limit_bytes=NO_LIMIT)
            return True
        content = n.to_bytes(4, "big") + CONTENT
        blob = publish(blobs, write(blobs, content))
        return b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(attempt, range(16)))
    assert stored_chunks(database) == 8 * 3
    assert database.uploads.count_documents({}) == 0


def test_the_last_reference_lets_the_sweep_take_a_blob(database: Database, blobs: Blobs) -> None:
    blob = publish(blobs, write(blobs))
    publish(blobs, write(blobs))
    release(database, blobs, blob)
    blobs.sweep(safety_s=-1)
    assert b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == CONTENT
    release(database, blobs, blob)
    blobs.sweep(safety_s=3600)
    assert stored_chunks(database) == 3
    blobs.sweep(safety_s=-1)
    assert stored_chunks(database) == database.files.count_documents({}) == 0


def test_a_blob_that_is_referred_to_again_in_time_stays(database: Database, blobs: Blobs) -> None:
    blob = publish(blobs, write(blobs))
    release(database, blobs, blob)
    assert publish(blobs, write(blobs)) == blob
    blobs.sweep(safety_s=-1)
    assert b"".join(blobs.read(blob.id, 0, blob.size_bytes)) == CONTENT


def test_a_write_that_was_swept_cannot_be_published(database: Database, blobs: Blobs) -> None:
    written = write(blobs)
    blobs.sweep(safety_s=-1)
    with pytest.raises(WriteExpired):
        publish(blobs, written)
    assert database.files.count_documents({}) == 0


def test_a_write_whose_chunk_a_failover_took_cannot_be_published(database: Database, blobs: Blobs) -> None:
    written = write(blobs)
    database.chunks.delete_one({"files_id": written.id, "n": 1})  # as a rollback does
    with pytest.raises(WriteExpired):
        publish(blobs, written)
    assert database.files.count_documents({}) == stored_chunks(database) == 0
    assert database.uploads.count_documents({}) == 0


def test_what_is_published_is_journaled_by_a_majority_before(database: Database, blobs: Blobs) -> None:
    for _ in range(5):
        written = write(blobs)
        last = database.client.admin.command("hello")["lastWrite"]["opTime"]["ts"]
        assert blobs.chunks.secure(written.id, written.size_bytes)
        assert database.client.admin.command("hello")["lastWrite"]["majorityOpTime"]["ts"] >= last


def test_counting_the_chunks_reads_none_of_them(database: Database, blobs: Blobs) -> None:
    publish(blobs, write(blobs))
    plan = database.client[database.chunks.database.name].command(
        "explain",
        {
            "aggregate": database.chunks.name,
            "pipeline": [{"$match": {"files_id": ObjectId()}}, {"$group": {"_id": 1, "n": {"$sum": 1}}}],
            "cursor": {},
        },
        verbosity="queryPlanner",
    )
    assert "IXSCAN" in str(plan) or "COUNT_SCAN" in str(plan)
    assert "'FETCH'" not in str(plan)
    assert "COLLSCAN" not in str(plan)


def test_a_sweep_that_meets_a_publishing_write_takes_all_of_it_or_nothing(
    database: Database, blobs: Blobs
) -> None:
    """Many interleavings of the two; what was acknowledged must be whole in each."""
    for _ in range(10):
        content = os.urandom(CHUNK_BYTES + 1)
        written = write(blobs, content)
        sweeper = threading.Thread(target=blobs.sweep, kwargs={"safety_s": -1})
        sweeper.start()
        try:
            acknowledged = publish(blobs, written)
        except WriteExpired:
            acknowledged = None
        sweeper.join()
        if acknowledged is not None:
            assert b"".join(blobs.read(acknowledged.id, 0, len(content))) == content
        else:
            assert database.chunks.count_documents({"files_id": written.id}) == 0


def test_a_commit_is_acknowledged_by_a_majority(database: Database, settings: Settings) -> None:
    concerns: list[object] = []

    class Listener(CommandListener):
        def started(self, event: CommandStartedEvent) -> None:
            if event.command_name == "commitTransaction":
                concerns.append(event.command.get("writeConcern", {}).get("w"))

        def succeeded(self, event: object) -> None: ...

        def failed(self, event: object) -> None: ...

    assert settings.mongodb_url is not None
    listening = Database(settings)
    listening.client = MongoClient(settings.mongodb_url.get_secret_value(), event_listeners=[Listener()])
    listening.transaction(
        lambda session: listening.client[settings.mongodb_db]["any"].insert_one({}, session=session)
    )
    listening.close()
    assert concerns == ["majority"]


def test_a_reference_that_cannot_be_stored_leaves_nothing(database: Database, blobs: Blobs) -> None:
    def refuse(stored: Blob, session: Session) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        blobs.publish(write(blobs), refuse)
    assert database.files.count_documents({}) == stored_chunks(database) == 0
    assert database.uploads.count_documents({}) == 0


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damage_is_told_and_never_sent_as_whole(database: Database, blobs: Blobs, damage: str) -> None:
    blob = publish(blobs, write(blobs))
    middle = {"files_id": blob.id, "n": 1}
    if damage == "missing":
        database.chunks.delete_one(middle)
    else:
        database.chunks.update_one(middle, {"$set": {"data": b"short"}})
    with pytest.raises(BlobDamaged):
        list(blobs.read(blob.id, 0, blob.size_bytes))


def test_retaining_what_is_gone_says_so(database: Database, blobs: Blobs) -> None:
    assert database.transaction(lambda session: blobs.retain(ObjectId(), session)) is False


def test_chunks_are_not_compressed(database: Database) -> None:
    # Weights do not compress; trying to takes a third of an upload's time.
    options = database.chunks.options()
    assert options["storageEngine"]["wiredTiger"]["configString"] == "block_compressor=none"
