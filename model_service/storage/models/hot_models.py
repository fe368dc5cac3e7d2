"""The answers about models that are asked for again and again, for a moment in Redis.

What is promised: once a change was acknowledged, no process answers with what was before it.

- A process reads Redis only for a model that it was asked for lately: one that is read once costs nothing.
- A process that finds nothing leaves a lease there, reads MongoDB, and stores the answer only where its
  lease still is. A change deletes the key after its commit and before its acknowledgement, the lease too:
  what was read before the commit is never put back.
- An answer lives ``ttl_s`` from the lease on, so from before it was read. A change that cannot reach Redis is
  acknowledged when that time has passed: processes that still read Redis find nothing old there then.
- A process that dies between its commit and the deletion acknowledged nothing; others may see the old answer
  for the rest of ``ttl_s``.
- Without Redis every read is MongoDB's; after a failure it is left alone for ``RETRY_S``.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import structlog
from redis.exceptions import RedisError

from model_service.config import Settings
from model_service.storage.common.db import Database, Document
from model_service.storage.common.shared_redis import connect

log = structlog.get_logger(__name__)

# How long a request waits for Redis, and how long others do not even try after it did in vain.
TIMEOUT_S = 0.5
RETRY_S = 5.0
# Ids that a process remembers to have been asked for: twice as many at most.
REMEMBERED = 4096
# Redis also carries the queue: a large answer stays out of its memory.
MAX_BODY_BYTES = 64 * 1024

_STORE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
end
"""


@dataclass(frozen=True, slots=True)
class HotModel:
    """One model as it is answered, and what decides who may see it."""

    name: str
    revision: int
    body: bytes

    @classmethod
    def of(cls, document: Document, render: Callable[[Document], bytes]) -> "HotModel":
        return cls(document["name"], document["revision"], render(document))

    def pack(self) -> bytes:
        return b"=%s\n%d\n%s" % (self.name.encode(), self.revision, self.body)

    @classmethod
    def unpack(cls, packed: bytes) -> "HotModel":
        name, revision, body = packed[1:].split(b"\n", 2)
        return cls(name.decode(), int(revision), body)


class HotModels:
    """Safe to use from any thread; connects when it is used."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._ttl_s = settings.metadata_cache_s if settings.redis_url is not None else 0.0
        self._asked: dict[str, None] = {}
        self._asked_before: dict[str, None] = {}
        self._down_until = 0.0
        self._tokens = itertools.count()
        self._process = f"?{os.getpid()}-{os.urandom(8).hex()}-"
        if self._ttl_s:
            self._redis: Any = connect(settings, database, TIMEOUT_S)
            self._store = self._redis.register_script(_STORE)

    def read(self, model_id: str, load: Callable[[], HotModel | None]) -> HotModel | None:
        """The model's answer; where it is not in Redis, what ``load`` reads from MongoDB.

        Args:
            model_id: the stored id, never a reference, which may come to mean another model.
        """
        if not self._ttl_s or not self._is_hot(model_id) or time.monotonic() < self._down_until:
            return load()
        key = self._key(model_id)
        try:
            packed = self._redis.get(key)
            if packed is not None and packed[:1] == b"=":
                return HotModel.unpack(packed)
            lease = f"{self._process}{next(self._tokens)}"
            mine = packed is None and self._redis.set(key, lease, nx=True, px=int(self._ttl_s * 1000))
        except RedisError as exc:
            self._failed(exc)
            return load()
        model = load()
        if mine and model is not None and len(model.body) <= MAX_BODY_BYTES:
            try:
                self._store(keys=[key], args=[lease, model.pack()])
            except RedisError as exc:
                self._failed(exc)
        return model

    def forget(self, model_ids: Iterable[Any], *, settle: bool = True) -> None:
        """Drop the answers about models that have just changed: after the commit, whatever came of it.

        Args:
            settle: where Redis cannot be reached, let ``settle`` wait until nobody can have the old answers
                any more.
        """
        keys = [self._key(str(model_id)) for model_id in model_ids]
        if not self._ttl_s or not keys:
            return
        try:
            if time.monotonic() >= self._down_until:
                self._redis.delete(*keys)
                return
        except RedisError as exc:
            self._failed(exc)
        if settle:
            _stale_until.set(time.monotonic() + self._ttl_s)

    def _is_hot(self, model_id: str) -> bool:
        """Whether this process was asked for it lately. Remembers that it was."""
        if model_id in self._asked:
            return True
        hot = model_id in self._asked_before
        self._asked[model_id] = None
        if len(self._asked) > REMEMBERED:
            self._asked_before, self._asked = self._asked, {}
        return hot

    def _key(self, model_id: str) -> str:
        return f"model:{model_id}"

    def _failed(self, exc: RedisError) -> None:
        self._down_until = time.monotonic() + RETRY_S
        log.warning("hot_models.redis_unreachable", error=str(exc), retry_s=RETRY_S)


# Until when an answer from before a change of this request may still be found somewhere.
_stale_until: ContextVar[float | None] = ContextVar("stale_until", default=None)


def settle() -> None:
    """Called before a request is answered: wait until nobody can have what it made stale.

    Returns at once unless a change could not reach Redis.
    """
    until = _stale_until.get()
    if until is not None:
        _stale_until.set(None)
        time.sleep(max(0.0, until - time.monotonic()))
