import hashlib
import multiprocessing
import os
import resource
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from model_service.metrics import CACHE_REQUESTS
from model_service.storage.blobs.blobs import Blob, Blobs
from model_service.storage.blobs.chunks import CHUNK_BYTES
from model_service.storage.blobs.disk_cache import DiskCache
from model_service.storage.common.db import Database
from model_service.storage.stores import build_stores
from tests.waiting import wait_for

SPAWN = multiprocessing.get_context("spawn")
CONTENT = os.urandom(CHUNK_BYTES + 54_321)
BLOB_BYTES = 100_000


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def content(n: int) -> bytes:
    return n.to_bytes(4, "big") * (BLOB_BYTES // 4)


def fill(cache: DiskCache, content: bytes) -> bool:
    return cache.fill(digest(content), len(content), lambda: iter([content]))


def cached(cache: DiskCache, content: bytes, start: int = 0, stop: int | None = None) -> bytes | None:
    pieces = cache.read(digest(content), len(content), start, len(content) if stop is None else stop)
    return None if pieces is None else b"".join(pieces)


def blobs_with(database: Database, cache: DiskCache) -> Blobs:
    stores = build_stores(database)
    return Blobs(database, stores.blobs.chunks, stores.counters, cache)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, 10 * BLOB_BYTES)


def test_a_blob_is_kept_when_it_is_asked_for_again_and_then_comes_without_mongodb(
    database: Database, folder: Path
) -> None:
    blobs = blobs_with(database, DiskCache(folder, 10 * CHUNK_BYTES))
    blob = blobs.publish(blobs.write(iter([CONTENT]), limit_bytes=1 << 40), lambda stored, session: None)
    file = folder / "blobs" / blob.sha256

    def download() -> bytes:
        return b"".join(blobs.send(blob, 0, blob.size_bytes))

    assert download() == CONTENT
    assert not folder.exists()  # once is no reason to keep it
    assert download() == CONTENT
    wait_for(file.exists, "the cache to be filled")
    database.chunks.delete_many({})
    assert download() == CONTENT
    assert b"".join(blobs.send(blob, CHUNK_BYTES - 5, CHUNK_BYTES + 5)) == CONTENT[CHUNK_BYTES - 5 :][:10]


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (1, 262_145), (len(CONTENT) - 1, len(CONTENT)), (7, 7)])
def test_any_part_comes_from_the_file(folder: Path, start: int, stop: int) -> None:
    cache = DiskCache(folder, 1 << 30)
    assert fill(cache, CONTENT)
    assert cached(cache, CONTENT, start, stop) == CONTENT[start:stop]


def test_what_was_not_used_for_longest_goes_first(cache: DiskCache, folder: Path) -> None:
    for n in range(10):
        fill(cache, content(n))
        os.utime(folder / "blobs" / digest(content(n)), (n, n))
    assert cached(cache, content(0)) == content(0)  # used: the newest now
    fill(cache, content(10))
    assert [n for n in range(11) if cached(cache, content(n)) is None] == [1]


def test_an_evicted_file_that_is_being_sent_is_sent_whole(folder: Path) -> None:
    cache = DiskCache(folder, len(CONTENT))
    fill(cache, CONTENT)
    pieces = cache.read(digest(CONTENT), len(CONTENT), 0, len(CONTENT))
    assert pieces is not None
    first = next(pieces)
    fill(cache, content(1))
    assert cached(cache, CONTENT) is None
    assert first + b"".join(pieces) == CONTENT


def test_a_blob_larger_than_the_cache_evicts_nothing(cache: DiskCache) -> None:
    fill(cache, content(1))
    assert not fill(cache, os.urandom(11 * BLOB_BYTES))
    assert cached(cache, content(1)) == content(1)


def test_a_truncated_file_is_never_sent_and_is_fetched_again(cache: DiskCache, folder: Path) -> None:
    fill(cache, content(1))
    os.truncate(folder / "blobs" / digest(content(1)), 10)
    assert cached(cache, content(1)) is None
    assert fill(cache, content(1))
    assert cached(cache, content(1)) == content(1)


def test_other_bytes_than_the_digest_names_are_never_kept(cache: DiskCache, folder: Path) -> None:
    wrong = b"x" + content(1)[1:]
    with pytest.raises(ValueError, match="sha256"):
        cache.fill(digest(content(1)), BLOB_BYTES, lambda: iter([wrong]))
    assert cached(cache, content(1)) is None
    assert list((folder / "filling").iterdir()) == []


def test_zero_bytes_turn_it_off(folder: Path) -> None:
    cache = DiskCache(folder, 0)
    for _ in range(3):
        cache.record_miss(digest(CONTENT), len(CONTENT), lambda: iter([CONTENT]))
        assert cached(cache, CONTENT) is None
    assert not folder.exists()


def test_hits_and_misses_are_counted(cache: DiskCache) -> None:
    def counts() -> list[float]:
        return [CACHE_REQUESTS.labels(outcome=outcome)._value.get() for outcome in ("hit", "miss")]

    hits, misses = counts()
    cached(cache, content(1))
    fill(cache, content(1))
    cached(cache, content(1))
    assert counts() == [hits + 1, misses + 1]


def test_a_folder_that_cannot_be_made_only_costs_the_cache(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    blobs = blobs_with(database, DiskCache(tmp_path / "file" / "cache", 1 << 30))
    blob = blobs.publish(blobs.write(iter([CONTENT]), limit_bytes=1 << 40), lambda stored, session: None)
    for _ in range(3):
        assert b"".join(blobs.send(blob, 0, blob.size_bytes)) == CONTENT


# Several processes of one machine


def fill_until_told(folder: Path, pipe: Connection) -> None:
    def pieces() -> Iterator[bytes]:
        yield content(1)[:1000]
        pipe.send("begun")
        pipe.recv()
        yield content(1)[1000:]

    pipe.send(DiskCache(folder, 10 * BLOB_BYTES).fill(digest(content(1)), BLOB_BYTES, pieces))


def filler(folder: Path) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    """A process in the middle of filling content(1)."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=fill_until_told, args=(folder, there))
    process.start()
    assert here.poll(30)
    assert here.recv() == "begun"
    return process, here


def test_a_file_is_filled_by_one_process_and_read_by_all(cache: DiskCache, folder: Path) -> None:
    process, pipe = filler(folder)
    assert not fill(cache, content(1))  # somebody does it already
    assert cached(cache, content(1)) is None  # and it is not whole
    fill(cache, content(2))  # which tidies up, but not what is being filled
    pipe.send("go on")
    assert pipe.poll(30)
    assert pipe.recv() is True
    process.join()
    assert cached(cache, content(1)) == content(1)


def test_what_a_killed_process_left_is_removed_and_filled_anew(cache: DiskCache, folder: Path) -> None:
    process, _ = filler(folder)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [path.name for path in (folder / "filling").iterdir()] == [digest(content(1))]
    fill(cache, content(2))
    assert list((folder / "filling").iterdir()) == []
    assert fill(cache, content(1))
    assert cached(cache, content(1)) == content(1)


def fill_many(folder: Path, first: int) -> None:
    cache = DiskCache(folder, 10 * BLOB_BYTES)
    for n in range(first, first + 100):
        fill(cache, content(n))


def test_processes_that_fill_at_once_keep_the_bound(folder: Path) -> None:
    processes = [SPAWN.Process(target=fill_many, args=(folder, first)) for first in (0, 50)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        if (blobs := folder / "blobs").exists():
            most = max(most, len(list(blobs.iterdir())))
    assert [process.exitcode for process in processes] == [0, 0]
    assert 1 < most <= 10
    for path in (folder / "blobs").iterdir():
        assert digest(path.read_bytes()) == path.name


def fill_where_nothing_fits(folder: Path, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    cache = DiskCache(folder, 10 * BLOB_BYTES)
    try:
        fill(cache, content(1))
    except OSError:
        pipe.send((cached(cache, content(1)), [path.name for path in (folder / "filling").iterdir()]))


def test_a_disk_that_takes_no_more_leaves_nothing_behind(folder: Path) -> None:
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=fill_where_nothing_fits, args=(folder, there))
    process.start()
    assert here.poll(30)
    assert here.recv() == (None, [])
    process.join()


def test_a_blob_that_is_damaged_in_mongodb_is_not_kept(database: Database, folder: Path) -> None:
    blobs = build_stores(database).blobs
    blob: Blob = blobs.publish(
        blobs.write(iter([CONTENT]), limit_bytes=1 << 40), lambda stored, session: None
    )
    database.chunks.update_one({"files_id": blob.id, "n": 0}, {"$set": {"data": bytes(CHUNK_BYTES)}})
    with pytest.raises(ValueError, match="sha256"):
        DiskCache(folder, 1 << 30).fill(
            blob.sha256, blob.size_bytes, lambda: blobs.read(blob.id, 0, blob.size_bytes)
        )
    assert list((folder / "blobs").iterdir()) == []
