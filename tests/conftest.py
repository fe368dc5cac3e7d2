"""A real mongod and a real Redis for the whole run; settings that give every test an empty database."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis

from model_service.config import Settings, read_settings
from model_service.embedded import Addresses
from model_service.embedded import servers as embedded_servers
from model_service.storage.common.db import Database
from model_service.storage.migrations import prepare
from tests import plans
from tests.faulty_servers import locked_redis, secured, standalone  # noqa: F401 - fixtures

LARGE_TIMEOUT_S = 2 * 3600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give large tests a longer time limit than ``pyproject.toml`` gives: the suites run for half an hour."""
    for item in items:
        if item.get_closest_marker("large") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LARGE_TIMEOUT_S))


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with embedded_servers(tmp_path_factory.mktemp("servers")) as addresses:
        yield addresses


@pytest.fixture(scope="session")
def database_name() -> str:
    return f"test-{uuid.uuid4().hex[:16]}"


def settings_of(servers: Addresses, database_name: str, home: Path) -> Settings:
    return read_settings(
        mongodb_url=servers.mongodb_url,
        redis_url=servers.redis_url,
        mongodb_db=database_name,
        model_service_home=home,
    )


@pytest.fixture
def settings(servers: Addresses, database_name: str, tmp_path: Path) -> Iterator[Settings]:
    """Redis is emptied before the test; after it, its queries are explained and its documents deleted.

    The indexes and the schema version stay: to make them takes longer than most tests.
    """
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    settings = settings_of(servers, database_name, tmp_path)
    try:
        with plans.checked(servers.mongodb_url, settings.mongodb_db):
            yield settings
    finally:
        with MongoClient[dict[str, Any]](servers.mongodb_url) as client:
            database = client[database_name]
            for name in set(database.list_collection_names()) - {"schema"}:
                database[name].delete_many({})


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The test's own database, with its indexes and the newest schema version."""
    database = Database(settings)
    prepare(database)
    yield database
    database.close()
