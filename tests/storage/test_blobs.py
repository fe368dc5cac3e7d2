import hashlib
import os
import threading
from collections.abc import Iterator

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.monitoring import CommandListener, CommandStartedEvent

from model_service.config import Settings
from model_service.storage.blobs import CHUNK_BYTES, Blob, BlobDamaged, Blobs, SizeLimitExceeded, WriteExpired
from model_service.storage.db import Database, Session

CONTENT = os.urandom(2 * CHUNK_BYTES + 12_345)
NO_LIMIT = 1 << 40


@pytest.fixture
def blobs(database: Database) -> Blobs:
    return Blobs(database)


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
