"""Servers that the service cannot use, or only with a password. The fixtures are those of every test."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis
from redis.exceptions import RedisError

from model_service.embedded import mongo, redis
from model_service.embedded.family import Family, Member, guarded
from model_service.embedded.lock import locked
from model_service.embedded.ports import remembered_port
from tests.waiting import wait_for

# Name, role, and the database of the role.
USERS = (
    ("writer", "readWrite", "tensorfleet"),
    ("reader", "read", "tensorfleet"),
    ("administrator", "root", "admin"),
)


@contextmanager
def family(folder: Path) -> Iterator[Family]:
    with locked(folder) as lock, guarded(folder, lock) as run:
        yield run


def start(run: Family, folder: Path, argv: list[str]) -> Member:
    with (folder / "log").open("ab") as log:
        return run.spawn(argv, run.environment(), log.fileno())


def end(run: Family, member: Member) -> None:
    run.end([member], 20)
    while member.code is None:
        run.receive()


@pytest.fixture(scope="module")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A mongod that is no replica set."""
    folder = tmp_path_factory.mktemp("standalone")
    with family(folder) as run:
        port = remembered_port(folder / "port")
        argv = mongo.argv(folder / "mongodb", port, 0.25)
        at = argv.index("--replSet")
        start(run, folder, argv[:at] + argv[at + 2 :])
        url = f"mongodb://127.0.0.1:{port}/"
        with MongoClient[dict[str, Any]](url) as client:
            client.admin.command("ping")
        yield url


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A mongod that requires a user: one of USERS, with the password ``secret``."""
    folder = tmp_path_factory.mktemp("secured")
    key = folder / "key"
    key.write_text("a" * 32)
    key.chmod(0o400)
    with family(folder) as run:
        port = remembered_port(folder / "port")
        argv = mongo.argv(folder / "mongodb", port, 0.25)
        member = start(run, folder, argv)
        wait_for(lambda: mongo.is_primary(port), "a primary")
        with MongoClient[dict[str, Any]](mongo.url(port)) as client:
            for name, role, of in USERS:
                client.admin.command("createUser", name, pwd="secret", roles=[{"role": role, "db": of}])
        end(run, member)
        start(run, folder, [*argv, "--auth", "--keyFile", str(key)])
        wait_for(lambda: mongo.is_primary(port), "a primary")
        yield f"127.0.0.1:{port}/?replicaSet=model-service"


@pytest.fixture(scope="module")
def locked_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis with the password ``secret``."""
    folder = tmp_path_factory.mktemp("redis")
    with family(folder) as run:
        port = remembered_port(folder / "port")
        start(run, folder, [*redis.argv(folder / "redis", port), "--requirepass", "secret"])
        with Redis(port=port, password="secret") as client:
            wait_for(lambda: _answers(client), "Redis")
        yield f"127.0.0.1:{port}"


def _answers(client: "Redis[bytes]") -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False
