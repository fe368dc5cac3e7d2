"""Facts about MongoDB and Redis that `model-service doctor` shows: versions, members, roles and clocks."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from model_service.config import Settings
from model_service.storage.common.db import Database
from model_service.storage.common.shared_redis import redis_url

_REDIS_S = 3.0


@dataclass(frozen=True)
class MongoDBFacts:
    """``replica_set``: None behind mongos. ``members``: with arbiters.

    ``ahead_s``: how far the clock of MongoDB is ahead of this machine's.
    """

    version: str
    replica_set: str | None
    members: int
    ahead_s: float


@dataclass(frozen=True)
class RedisFacts:
    """``evicts``: Redis may delete keys when its memory is full. ``ahead_s``: as above."""

    version: str
    host: str | None
    has_password: bool
    policy: str
    evicts: bool
    ahead_s: float


def examine_mongodb(database: Database) -> MongoDBFacts:
    """Raises: one of DATABASE_ERRORS."""
    admin = database.client.admin
    admin.command("ping")  # connects and authenticates, so that the next response takes one way only
    asked = time.time()
    hello = admin.command("hello")
    answered = time.time()
    clock: datetime = hello["localTime"]
    return MongoDBFacts(
        version=database.client.server_info()["version"],
        replica_set=hello.get("setName"),
        members=sum(len(hello.get(kind, ())) for kind in ("hosts", "passives", "arbiters")),
        ahead_s=clock.replace(tzinfo=UTC).timestamp() - (asked + answered) / 2,
    )


def roles(database: Database) -> list[tuple[str, str]]:
    """Return the roles of our user, each with its database; empty without a user.

    Raises: one of DATABASE_ERRORS.
    """
    auth_info = database.client.admin.command("connectionStatus")["authInfo"]
    return [(role["role"], role["db"]) for role in auth_info["authenticatedUserRoles"]]


def examine_redis(settings: Settings) -> RedisFacts:
    """Raises: RedisError."""
    with Redis.from_url(
        redis_url(settings),
        socket_connect_timeout=_REDIS_S,
        socket_timeout=_REDIS_S,
        retry=Retry(NoBackoff(), 0),
    ) as client:
        client.ping()
        asked = time.time()
        seconds, microseconds = client.time()
        answered = time.time()
        facts = client.info()
        connection = client.connection_pool.connection_kwargs
    policy = str(facts.get("maxmemory_policy", "unknown"))
    return RedisFacts(
        version=str(facts["redis_version"]),
        host=connection.get("host"),
        has_password=bool(connection.get("password")),
        policy=policy,
        evicts=policy not in ("noeviction", "unknown") and bool(facts.get("maxmemory")),
        ahead_s=seconds + microseconds / 1e6 - (asked + answered) / 2,
    )
