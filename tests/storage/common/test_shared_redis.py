"""Two installations on one Redis share nothing, and every key says whose it is."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from redis import Redis

from model_service.app import create_app
from model_service.config import Settings
from model_service.embedded import Addresses
from model_service.jobs.queue import SCANS, Queue
from model_service.jobs.scan import scan
from model_service.storage.access.rate_windows import RateWindows
from model_service.storage.common.db import Database
from model_service.storage.common.secrets import Secrets
from model_service.storage.common.shared_redis import connect
from model_service.storage.models.hot_model import HotModel
from model_service.storage.models.hot_models import HotModels
from tests.api.people import People, secured
from tests.factories import new_model
from tests.processes import worker
from tests.waiting import wait_for


@pytest.fixture
def redis(servers: Addresses) -> Iterator[Redis]:
    with Redis.from_url(servers.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def another(settings: Settings) -> Iterator[Settings]:
    """The settings of a second installation: another database on the same servers."""
    other = settings.model_copy(update={"mongodb_db": f"test-{uuid.uuid4().hex[:16]}"})
    yield other
    assert other.mongodb_url is not None
    with MongoClient[dict[str, Any]](other.mongodb_url.get_secret_value()) as client:
        client.drop_database(other.mongodb_db)


def test_the_id_is_made_once(settings: Settings, database: Database, another: Settings) -> None:
    made = Secrets(database).installation_id
    assert Secrets(Database(settings)).installation_id == made
    assert Secrets(Database(another)).installation_id != made


def test_queues_hot_models_and_windows_are_apart(
    settings: Settings, database: Database, another: Settings
) -> None:
    elsewhere = Database(another)
    mine, theirs = Queue(settings, Secrets(database)), Queue(another, Secrets(elsewhere))
    mine.enqueue(SCANS, scan, "a")
    assert (mine.waiting(SCANS), theirs.waiting(SCANS)) == (["a"], [])

    caches = HotModels(settings, Secrets(database)), HotModels(another, Secrets(elsewhere))
    for number, cache in enumerate(caches):
        model = HotModel("digits", 1, b"%d" % number)
        answers = {cache.read("an id", lambda model=model: model) for _ in range(4)}  # type: ignore[misc]
        assert answers == {model}

    windows = RateWindows(settings, Secrets(database)), RateWindows(another, Secrets(elsewhere))
    for each in windows:
        assert each.exchange(1, {"ada": 5}) == {"ada": 0}
        each.close()


def test_limits_are_apart(settings: Settings, another: Settings) -> None:
    for each in (settings, another):
        root = People(create_app(secured(each, rate_limits="on", rate_limit_default="1 per hour"))).root
        root("POST", "/api/v1/models", json=new_model(), status=201)
        root("POST", "/api/v1/models", json=new_model(), status=429)


def test_after_a_busy_run_every_key_has_the_installations_prefix(
    settings: Settings, database: Database, another: Settings, redis: Redis
) -> None:
    """The other installation has no worker: ours leaves its jobs where they are."""
    theirs = Queue(another, Secrets(Database(another)))
    theirs.enqueue(SCANS, scan, "theirs")
    people = People(create_app(secured(settings, rate_limits="on", rate_limit_default="1000000 per hour")))
    made: Any = people.root("POST", "/api/v1/models", json=new_model(), status=201).json
    model = f"/api/v1/models/{made['model_id']}"
    seen: set[str] = set()
    ours, others = (Secrets(each).redis_prefix for each in (database, Database(another)))

    def is_scanned() -> bool:
        seen.update(redis.keys(), redis.pubsub_channels())
        people.root("GET", model, status=200)
        return bool(database.models.find_one({"files.scan": {"$ne": None}}))

    with worker(settings):
        headers = {"X-Filename": "m.pt"}
        people.root("POST", f"{model}/upload", data=b"no pickle", headers=headers, status=201)
        wait_for(is_scanned, "the worker to scan the file", deadline_s=120)
    seen.update(redis.keys())
    assert [key for key in seen if not key.startswith((ours, others))] == []
    for kind in ("rq:queues", "rq:workers", "rq:pubsub:", "rq:job:", "model:", "LIMITS:"):
        assert any(key.startswith(ours + kind) for key in seen), kind
    assert theirs.waiting(SCANS) == ["theirs"]


def test_a_command_whose_keys_are_unknown_is_refused(settings: Settings, database: Database) -> None:
    with connect(settings, database, 1) as client, pytest.raises(NotImplementedError, match="SORT"):
        client.sort("a list")
