"""A real mongod and a real Redis: what was acknowledged survives, and a folder has one launcher."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from pymongo import MongoClient, WriteConcern
from redis import Redis

from model_service.embedded import Addresses, servers
from model_service.embedded.errors import DataFolderInUse
from tests.waiting import wait_for, wait_until_gone

MAJORITY = WriteConcern("majority", j=True)
HOLD = """
import pathlib, sys, time
from model_service.embedded import servers
with servers(pathlib.Path(sys.argv[1])) as addresses:
    print(addresses.mongodb_url, flush=True)
    time.sleep(600)
"""


def client(addresses: Addresses) -> MongoClient[dict[str, Any]]:
    return MongoClient(addresses.mongodb_url)


def running(data_dir: Path, executable: str) -> list[int]:
    """The live processes of that name that work in ``data_dir``."""
    return [
        process.pid
        for process in psutil.process_iter(["name", "cwd", "cmdline", "status"])
        if process.info["name"] == executable
        and process.info["status"] != psutil.STATUS_ZOMBIE
        and any(
            str(data_dir) in argument for argument in [*process.info["cmdline"], process.info["cwd"] or ""]
        )
    ]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that runs the servers in ``tmp_path``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("mongodb://127.0.0.1:")
        yield process
        process.kill()


def test_transactions_work(servers: Addresses) -> None:
    with client(servers) as mongo, mongo.start_session() as session:
        with session.start_transaction():
            mongo.embedded.things.insert_one({"kept": False}, session=session)
            session.abort_transaction()
        with session.start_transaction():
            mongo.embedded.things.insert_one({"kept": True}, session=session)
        assert [found["kept"] for found in mongo.embedded.things.find()] == [True]
        mongo.drop_database("embedded")


def test_an_acknowledged_write_survives_kill_9_and_another_port(tmp_path: Path) -> None:
    with servers(tmp_path) as first:
        with client(first) as mongo:
            mongo.t.get_collection("t", write_concern=MAJORITY).insert_one({"_id": "acknowledged"})
        (mongod,) = running(tmp_path, "mongod")
        os.kill(mongod, signal.SIGKILL)
        wait_until_gone([mongod])
    note = tmp_path / "mongodb.port"
    port = int(note.read_text())
    note.write_text(f"{port + 1}\n")
    with servers(tmp_path) as second, client(second) as mongo:
        assert urlsplit(second.mongodb_url).port != port
        assert mongo.t.t.find_one() == {"_id": "acknowledged"}
        mongo.t.t.insert_one({"_id": "writable"})


def test_ports_and_ids_stay_from_run_to_run(tmp_path: Path) -> None:
    with servers(tmp_path) as first, Redis.from_url(first.redis_url) as redis:
        redis.rpush("queue", "id")
    with servers(tmp_path) as second, Redis.from_url(second.redis_url) as redis:
        assert second == first
        assert redis.lrange("queue", 0, -1) == [b"id"]
    assert not running(tmp_path, "mongod")
    assert not running(tmp_path, "redis-server")


def test_a_folder_has_one_launcher(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(DataFolderInUse, match=rf"in use by process {holder.pid}\b"), servers(tmp_path):
        pass


def test_a_folder_is_free_after_its_launcher_was_killed(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    (mongod,) = running(tmp_path, "mongod")
    holder.kill()
    with servers(tmp_path) as addresses, client(addresses) as mongo:
        mongo.t.t.insert_one({})
        assert mongod not in running(tmp_path, "mongod")


def test_nothing_outlives_a_program_that_was_killed(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    left = [*running(tmp_path, "mongod"), *running(tmp_path, "redis-server")]
    assert len(left) == 2
    holder.kill()
    wait_until_gone(left)


def test_a_mongod_whose_launcher_and_guard_were_killed_is_ended(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    (mongod,) = running(tmp_path, "mongod")
    (guard,) = [
        child for child in psutil.Process(holder.pid).children() if "model_service.guard" in child.cmdline()
    ]
    guard.kill()
    wait_for(lambda: guard.status() == psutil.STATUS_ZOMBIE, "the guard dead")
    holder.kill()
    with servers(tmp_path):
        wait_until_gone([mongod], deadline_s=0)
