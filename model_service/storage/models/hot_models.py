"""Short-lived cache in Redis of responses for frequently read models.

Guarantee: after a change was acknowledged, no process returns the state before it.

- A process reads Redis only for models requested recently, so a single read costs nothing.
- On a miss, a process stores a lease in Redis, reads MongoDB, and stores the response if its lease is still
  there. A change deletes the key, and the lease, after its commit and before its acknowledgement: data read
  before the commit is never stored afterwards.
- A response expires ``ttl_s`` after its lease, which precedes the read. A change that cannot reach Redis is
  acknowledged after that time: processes that still reach Redis find nothing old there then.
- A process that dies between commit and deletion has acknowledged nothing. Others may return the old response
  for the rest of ``ttl_s``.
- Without Redis, MongoDB serves every read. After a failure Redis is not used for ``RETRY_S``.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar

import structlog
from redis.exceptions import RedisError

from model_service.config import Settings
from model_service.storage.common.documents import StoredId
from model_service.storage.common.secrets import Secrets
from model_service.storage.common.shared_redis import connect
from model_service.storage.models.hot_model import HotModel

log = structlog.get_logger(__name__)

# Timeout of a Redis operation, and how long a process avoids Redis after a failure.
TIMEOUT_S = 0.5
RETRY_S = 5.0
# Number of recently requested ids that a process remembers; at most twice as many.
REMEMBERED = 4096
# Redis also holds the queue, so large responses are not cached.
MAX_BODY_BYTES = 64 * 1024

_STORE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
end
"""


class HotModels:
    """Cache of responses. Safe to use from any thread; connects on first use."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._ttl_s = settings.metadata_cache_s if settings.redis_url is not None else 0.0
        self._asked: dict[str, None] = {}
        self._asked_before: dict[str, None] = {}
        self._down_until = 0.0
        self._tokens = itertools.count()
        self._process = f"?{os.getpid()}-{os.urandom(8).hex()}-"
        if self._ttl_s:
            self._redis = connect(settings, secrets, TIMEOUT_S)
            self._store = self._redis.register_script(_STORE)

    def read(self, model_id: str, load: Callable[[], HotModel | None]) -> HotModel | None:
        """Return the cached response, or the result of ``load``, which reads MongoDB.

        Args:
            model_id: the stored id, not a reference, whose target may change.
        """
        if not self._ttl_s or not self._is_hot(model_id) or time.monotonic() < self._down_until:
            return load()
        key = self._key(model_id)
        try:
            packed = self._redis.get(key)
            if isinstance(packed, bytes) and packed[:1] == b"=":
                return HotModel.unpack(packed)
            lease = f"{self._process}{next(self._tokens)}"
            mine = packed is None and bool(self._redis.set(key, lease, nx=True, px=int(self._ttl_s * 1000)))
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

    def forget(self, model_ids: Iterable[StoredId], *, settle: bool = True) -> None:
        """Delete the responses of changed models: after the commit, whether or not it succeeded.

        Args:
            settle: if Redis is unreachable, make ``settle`` wait until no process can return the old
                responses.
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
        """Return whether this process has had a recent request for the model, and record this one."""
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


# Until when a response from before a change of this request may still be cached.
_stale_until: ContextVar[float | None] = ContextVar("stale_until", default=None)


def settle() -> None:
    """Wait until no cache can return what this request made stale; called before the response is sent.

    Returns at once unless a change could not reach Redis.
    """
    until = _stale_until.get()
    if until is not None:
        _stale_until.set(None)
        time.sleep(max(0.0, until - time.monotonic()))
