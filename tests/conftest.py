"""A real mongod and a real Redis for the whole run; settings that give every test a database of its own."""

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
from model_service.storage.db import Database
from tests import plans


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with embedded_servers(tmp_path_factory.mktemp("servers")) as addresses:
        yield addresses


@pytest.fixture
def settings(servers: Addresses, tmp_path: Path) -> Iterator[Settings]:
    """Redis is emptied before the test; after it, its queries are explained and its database is dropped."""
    with Redis.from_url(servers.redis_url) as redis:
        redis.flushdb()
    settings = read_settings(
        mongodb_url=servers.mongodb_url,
        redis_url=servers.redis_url,
        mongodb_db=f"test-{uuid.uuid4().hex[:16]}",
        model_service_home=tmp_path,
    )
    try:
        with plans.checked(servers.mongodb_url, settings.mongodb_db):
            yield settings
    finally:
        with MongoClient[dict[str, Any]](servers.mongodb_url) as client:
            client.drop_database(settings.mongodb_db)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    """The test's own database, with its indexes."""
    database = Database(settings)
    database.ensure_indexes()
    yield database
    database.close()
