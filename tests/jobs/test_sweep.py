import os
import threading
from datetime import timedelta

import pytest
from bson import ObjectId

from model_service.config import Settings
from model_service.jobs.presence import Presence
from model_service.jobs.schedule import Periodic
from model_service.jobs.sweep import TASK, Step, Sweeper, make_sweeper
from model_service.storage.blobs.blobs import CHUNK_BYTES, Blob
from model_service.storage.common.db import Database, now
from model_service.storage.common.leases import Leases
from model_service.storage.operations.maintenance import Maintenance
from model_service.storage.operations.workers import Workers
from model_service.storage.stores import build_stores

LONG_AGO = timedelta(days=400)


@pytest.fixture
def sweeper(settings: Settings, database: Database) -> Sweeper:
    return make_sweeper(settings, build_stores(database, settings))


def stored(database: Database, content: bytes) -> Blob:
    blobs = build_stores(database).blobs
    return blobs.publish(blobs.write([content], limit_bytes=1 << 40), lambda blob, session: None)


def let_go(database: Database, blob: Blob) -> None:
    unheld = {"metadata.references": 0, "metadata.unreferenced_at": now() - LONG_AGO}
    database.files.update_one({"_id": blob.id}, {"$set": unheld})


def trashed(database: Database, blob: Blob) -> ObjectId:
    model_id = ObjectId()
    model = {"_id": model_id, "name": "m", "version": "v1.0", "namespace": "", "revision": 1}
    files = [{"path": "m", **blob.reference()}]
    database.deleted_models.insert_one({**model, "files": files, "deleted_at": now() - LONG_AGO})
    return model_id


def test_the_trash_goes_and_then_its_bytes(database: Database, sweeper: Sweeper) -> None:
    blob = stored(database, b"bytes")
    trashed(database, blob)
    first = sweeper.sweep()
    assert first is not None
    assert first["removed"]["deleted_models"] == 1
    assert database.files.count_documents({}) == 1  # the safety window of the blob begins now
    let_go(database, blob)
    assert sweeper.sweep()["removed"]["blobs"] == 1  # type: ignore[index]
    assert database.files.count_documents({}) == database.chunks.count_documents({}) == 0


@pytest.mark.parametrize("missing", ["chunk", "file"])
def test_what_is_missing_stops_nothing(database: Database, sweeper: Sweeper, missing: str) -> None:
    damaged = stored(database, os.urandom(2 * CHUNK_BYTES))
    whole = stored(database, b"whole")
    trashed(database, damaged)
    trashed(database, whole)
    if missing == "chunk":
        database.chunks.delete_one({"files_id": damaged.id, "n": 0})
    else:
        database.files.delete_one({"_id": damaged.id})
    result = sweeper.sweep()
    assert result is not None
    assert (result["removed"]["deleted_models"], result["errors"]) == (2, {})
    for blob in (damaged, whole):
        let_go(database, blob)
    assert sweeper.sweep()["errors"] == {}  # type: ignore[index]
    assert database.files.count_documents({}) == 0


def test_a_failing_step_is_told_and_the_others_run(database: Database) -> None:
    def fail() -> int:
        raise RuntimeError("no such luck")

    sweeper = Sweeper(Leases(database), Maintenance(database), [Step("a", fail), Step("b", lambda: 3)])
    sweeper.sweep()
    last = Maintenance(database).last(TASK)
    assert last is not None
    assert last["removed"] == {"b": 3}
    assert last["errors"] == {"a": "RuntimeError: no such luck"}


def test_one_sweeps_at_a_time_and_only_when_due(database: Database) -> None:
    inside, finish = threading.Event(), threading.Event()

    def wait() -> int:
        inside.set()
        assert finish.wait(20)
        return 0

    slow = Sweeper(Leases(database), Maintenance(database), [Step("slow", wait)])
    other = Sweeper(Leases(database), Maintenance(database), [Step("other", lambda: 1)])
    thread = threading.Thread(target=slow.sweep_if_due)
    thread.start()
    assert inside.wait(20)
    assert other.sweep_if_due() is None
    finish.set()
    thread.join(20)
    assert other.sweep_if_due() is None  # the other one has just done it
    assert other.sweep() is not None


def test_a_dead_sweeper_is_waited_for_no_longer_than_its_lease(database: Database) -> None:
    leases = Leases(database)
    assert leases.acquire("sweep", 3600) is not None
    assert leases.acquire("sweep", 3600) is None
    database.leases.update_one({"_id": "sweep"}, {"$set": {"expires_at": now() - LONG_AGO}})
    again = leases.acquire("sweep", 3600)
    assert again is not None
    leases.release(again)
    assert leases.acquire("sweep", 3600) is not None


def test_blobs_stay_while_an_archive_is_made(database: Database, sweeper: Sweeper) -> None:
    blob = stored(database, b"bytes")
    let_go(database, blob)
    with Leases(database).archive():
        result = sweeper.sweep()
        assert result is not None
        assert "archive" in result["errors"]["blobs"]
        assert database.files.count_documents({}) == 1
    assert sweeper.sweep()["removed"]["blobs"] == 1  # type: ignore[index]


def test_a_task_runs_again_after_it_failed() -> None:
    runs = []
    done = threading.Event()

    def task() -> None:
        runs.append(1)
        if len(runs) == 3:
            done.set()
        raise RuntimeError

    periodic = Periodic("test", 0.01, task)
    periodic.start()
    assert done.wait(20)
    periodic.stop()


def test_a_worker_says_that_it_lives_and_what_confines_it(database: Database) -> None:
    workers = Workers(database)
    presence = Presence(workers, "worker-1")
    assert workers.alive(30) == []
    presence.report()
    (worker,) = workers.alive(30)
    assert worker["_id"] == "worker-1"
    assert {"network", "files"} == set(worker["sandbox"])
    assert all(state == "isolated" or state.startswith("open: ") for state in worker["sandbox"].values())
    database.workers.update_one({}, {"$set": {"at": now() - timedelta(minutes=1)}})
    assert workers.alive(30) == []
    presence.leave()
    assert database.workers.count_documents({}) == 0
