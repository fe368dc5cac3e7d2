"""The checks of ``model-service doctor``, one subject at a time, with real servers."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from model_service.config import Settings, read_settings
from model_service.doctor import clocks, mongodb, ports, redis
from model_service.doctor.findings import Finding, Setup, ok
from model_service.doctor.limits import memory_bytes
from model_service.doctor.runner import Subject, run
from model_service.storage.common.db import Database
from model_service.storage.migrations import LATEST
from tests.processes import running
from tests.test_connections import answers
from tests.test_start import free_port
from tests.waiting import wait_for


def found_by(check: Callable[[Setup], Iterator[Finding]], settings: Settings) -> dict[str, Finding]:
    return {each.check: each for each in check(Setup(settings, []))}


@pytest.mark.parametrize(
    ("user", "status", "hint"),
    [
        ("writer", "ok", "the role readWrite on tensorfleet, and no other"),
        ("reader", "error", "lacks permission for createCollection, createIndex, insert, remove, update"),
        ("administrator", "warning", "has the role root on admin. The service only needs readWrite"),
    ],
)
def test_the_roles_of_the_user(secured: str, user: str, status: str, hint: str) -> None:
    found = found_by(mongodb.check, read_settings(mongodb_url=f"mongodb://{user}:secret@{secured}"))
    assert found["mongodb-user"].status == status
    assert hint in found["mongodb-user"].message
    assert found["mongodb-clock"].status == "ok"
    assert "has 1 member:" in found["mongodb-replica-set"].message


def test_the_version_of_the_data(settings: Settings, database: Database) -> None:
    known = f"schema version {LATEST}, that of this program"
    found = found_by(mongodb.check, settings)
    assert known in found["data-version"].message
    assert "GB are free on its disk" in found["mongodb-disk"].message
    other = settings.model_copy(update={"mongodb_db": f"{settings.mongodb_db[:-2]}-3"})
    schema = database.client[other.mongodb_db]["schema"]
    try:
        assert "is empty" in found_by(mongodb.check, other)["data-version"].message
        for version, status, hint in (
            (LATEST - 1, "warning", f"the next start migrates it to {LATEST}. First write a backup"),
            (LATEST + 1, "error", f"has schema version {LATEST + 1}, written by model-service 99"),
        ):
            document = {"_id": "schema", "schema_version": version, "service_version": "99"}
            schema.replace_one({"_id": "schema"}, document, upsert=True)
            version_of = found_by(mongodb.check, other)["data-version"]
            assert (version_of.status, hint in version_of.message) == (status, True), version_of
    finally:
        database.client.drop_database(other.mongodb_db)


def test_a_redis_that_evicts_keys(locked_redis: str) -> None:
    settings = read_settings(redis_url=f"redis://:secret@{locked_redis}/0")
    assert {each.status for each in found_by(redis.check, settings).values()} == {"ok"}
    with Redis.from_url(f"redis://:secret@{locked_redis}/0") as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        found = found_by(redis.check, settings)["redis-memory"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "0")
    assert found.status == "warning"
    assert "allkeys-lru" in found.message


def test_servers_that_do_not_respond() -> None:
    port = free_port()
    settings = read_settings(
        mongodb_url=f"mongodb://127.0.0.1:{port}/", redis_url=f"redis://127.0.0.1:{port}/0"
    )
    for check, subject in {"mongodb": mongodb.check, "redis": redis.check}.items():
        (finding,) = found_by(subject, settings).values()
        assert (finding.check, finding.status) == (check, "error")
        assert "no response from" in finding.message
        assert "Start it, or correct its address" in finding.message


@pytest.mark.parametrize(
    ("ahead_s", "status", "hint"),
    [
        (0.4, "ok", "less than 2 s"),
        (-5.0, "warning", "5 s behind the clock of this machine. Synchronise both with NTP"),
        (120.0, "error", "120 s ahead of"),
    ],
)
def test_clocks(ahead_s: float, status: str, hint: str) -> None:
    found = clocks.judge("clock", "MongoDB", ahead_s)
    assert found.status == status
    assert hint in found.message


def test_the_port_of_the_running_service(settings: Settings, database: Database, tmp_path: Path) -> None:
    port = int(free_port())
    with running("model_service.api", settings, tmp_path / "log", port=port):
        wait_for(lambda: answers(port), "the registry", deadline_s=60)
        found = found_by(ports.check, settings.model_copy(update={"port": port}))["port"]
    assert (found.status, found.message) == ("ok", f"PORT={port} is in use by this service")


def test_the_memory_limit_of_a_container(tmp_path: Path) -> None:
    """The smallest one counts: of this group, or of one above it."""
    machine = memory_bytes(tmp_path)
    groups = tmp_path / "sys" / "fs" / "cgroup"
    for folder, limit in {"pod/container": "max", "pod": "4000000", "": "max"}.items():
        (groups / folder).mkdir(parents=True, exist_ok=True)
        (groups / folder / "memory.max").write_text(f"{limit}\n")
    own = tmp_path / "proc" / "self" / "cgroup"
    own.parent.mkdir(parents=True)
    own.write_text("0::/pod/container\n")
    assert memory_bytes(tmp_path) == 4_000_000
    (groups / "memory").mkdir()
    (groups / "memory" / "memory.limit_in_bytes").write_text("3000000\n")
    own.write_text("5:cpu,cpuacct:/\n4:memory:/docker/1\n")
    assert memory_bytes(tmp_path) == 3_000_000
    assert machine >= memory_bytes() > 3_000_000


def test_a_check_that_hangs_or_fails_hides_nothing(settings: Settings) -> None:
    released = threading.Event()

    def hangs(setup: Setup) -> Iterator[Finding]:
        yield ok("before", "kept")
        released.wait(60)

    def fails(setup: Setup) -> Iterator[Finding]:
        yield ok("before", "kept")
        raise ValueError("mongodb://user:secret@host")

    def works(setup: Setup) -> Iterator[Finding]:
        yield ok("works", "kept")

    subjects = [Subject("hangs", hangs, 0.5), Subject("fails", fails, 60), Subject("works", works, 60)]
    found = list(run(subjects, Setup(settings, [])))
    released.set()
    assert [(each.check, each.status) for each in found] == [
        *(("before", "ok"), ("hangs", "error")),
        *(("before", "ok"), ("fails", "error")),
        ("works", "ok"),
    ]
    assert "no result within 0.5 s" in found[1].message
    assert "ValueError in test_checks.py" in found[3].message
    assert "secret" not in found[3].message
