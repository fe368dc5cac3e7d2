"""Rate limit windows in Redis that the inference servers share: requests per owner in the current minute.

One hash per minute and owner: {process: number of requests}. A process writes its own total, so that the
write can be repeated, and reads those of the others. Old minutes expire.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from model_service.config import Settings
from model_service.storage.common.db import DATABASE_ERRORS
from model_service.storage.common.secrets import Secrets

if TYPE_CHECKING:
    from redis import Redis

log = structlog.get_logger(__name__)

# Timeout of one exchange with Redis.
_TIMEOUT_S = 0.5
_KEPT_S = 120


class RateWindows:
    """Connects on first use and imports redis only then, so that a serving process starts sooner.

    Without REDIS_URL every process counts alone.
    """

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._process = uuid4().hex
        self._settings, self._secrets = settings, secrets
        self.connected = False

    @cached_property
    def _redis(self) -> Redis | None:
        if self._settings.redis_url is None:
            return None
        from model_service.storage.common.shared_redis import connect

        return connect(self._settings, self._secrets, _TIMEOUT_S)

    def exchange(self, minute: int, own: Mapping[str, int]) -> dict[str, int] | None:
        """Write this process's counts of the minute and return the sum of the other processes' counts.

        Both are by owner. Returns None while Redis is unreachable. Takes one round trip.

        Args:
            minute: since the epoch.
        """
        if self._redis is None:
            return None
        if not own:
            return {} if self._is_there(self._redis) else None
        from redis.exceptions import RedisError

        pipeline = self._redis.pipeline(transaction=False)
        try:
            for owner, count in own.items():
                name = f"rate:{minute}:{owner}"
                pipeline.hset(name, self._process, str(count))
                pipeline.expire(name, _KEPT_S)
                pipeline.hvals(name)
            counts = pipeline.execute()[2::3]
        except (RedisError, *DATABASE_ERRORS) as exc:  # MongoDB stores the prefix of the keys
            self._failed(exc)
            return None
        self.connected = True
        return {
            owner: sum(map(int, found)) - count
            for (owner, count), found in zip(own.items(), counts, strict=True)
        }

    def _is_there(self, redis: Redis) -> bool:
        from redis.exceptions import RedisError

        try:
            redis.ping()
        except RedisError as exc:
            self._failed(exc)
        else:
            self.connected = True
        return self.connected

    def _failed(self, exc: Exception) -> None:
        if self.connected:
            log.warning("rate_windows.redis_away", error=str(exc))
        self.connected = False

    def close(self) -> None:
        if self.__dict__.get("_redis") is not None:
            self.__dict__["_redis"].close()
