"""Rate limits: per user or key, and per address for unknown callers.

Each request belongs to one class (read, poll, change, upload, download, part, login) and is counted in one
window of that class, with one round trip to Redis. Each route is counted separately. Transfers are also
counted by bytes, over all routes together. Without Redis, each process counts on its own until Redis is back
(flask-limiter's in-memory fallback).
"""

import math
import re
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from flask import Flask, Response, current_app, request
from flask_limiter import Limit, Limiter, RateLimitExceeded
from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from model_service.actor import actor
from model_service.api.http.policy import READING, RateClass, current_policy, is_open
from model_service.config import Settings
from model_service.errors import RateLimited

T = TypeVar("T")

# The prefix of REDIS_URL's scheme that selects the storage class below in flask-limiter.
_OURS = "model-service+"
# A request waits this long for a Redis that does not respond, once; then Redis is not used for a while.
_REDIS_TIMEOUT_S = 0.5

# The classes whose requests and responses are also counted by bytes.
_TRANSFERS = frozenset({"upload", "download", "parts"})
# A range that begins after the first byte continues a download that was counted.
_CONTINUES = re.compile(r"bytes=0*[1-9][0-9]*-[0-9]*")


def register_limits(app: Flask, settings: Settings, key_prefix: Callable[[], str]) -> None:
    """Register the limits. Call this after the authentication is registered.

    Args:
        key_prefix: returns the prefix of keys in Redis; called when the first request is counted.
    """
    if not settings.limits_rates:
        return
    limits = {
        "default": settings.rate_limit_default,
        "read": settings.rate_limit_read,
        "poll": settings.rate_limit_poll,
        "upload": settings.rate_limit_upload,
        "download": settings.rate_limit_download,
        "parts": settings.rate_limit_parts,
        "login": settings.rate_limit_login,
    }
    limiter = Limiter(
        _caller,
        default_limits=[Limit(lambda: limits[_class()], scope=lambda endpoint: _class())],
        storage_uri=_storage(settings),
        storage_options=_REDIS_OPTIONS | {"prefix": key_prefix} if settings.redis_url else {},
        in_memory_fallback_enabled=True,
    )
    limiter.request_filter(_is_exempt)
    limiter.init_app(app)
    _register_bytes(app, limiter, parse(settings.rate_limit_bytes))

    @app.errorhandler(RateLimitExceeded)
    def refuse(error: RateLimitExceeded) -> Any:
        window = _window(limiter)
        wait_s = _wait_s(window.reset_at) if window else 1
        return current_app.handle_user_exception(RateLimited(error.description, wait_s))

    @app.after_request
    def add_headers(response: Response) -> Response:
        window = _window(limiter)
        if window is not None:
            response.headers["X-RateLimit-Limit"] = str(window.amount)
            response.headers["X-RateLimit-Remaining"] = str(window.remaining)
            response.headers["X-RateLimit-Reset"] = str(window.reset_at)
        return response


def _register_bytes(app: Flask, limiter: Limiter, limit: RateLimitItem) -> None:
    """Register the byte budgets of callers.

    The budget is checked before a transfer, and the transferred bytes are subtracted afterwards. A single
    transfer that is larger than the budget is allowed.
    """

    @app.before_request
    def refuse_transfer() -> None:
        if _is_transfer() and not _tolerant(lambda: limiter.limiter.test(limit, *_budget()), True):
            window = _tolerant(lambda: limiter.limiter.get_window_stats(limit, *_budget()), None)
            description = f"{limit.amount / 1e9:,g} GB per {limit.multiples} {limit.GRANULARITY.name}"
            raise RateLimited(description, _wait_s(window.reset_time) if window else 1)

    @app.after_request
    def count_bytes(response: Response) -> Response:
        if _is_transfer() and response.status_code < 400:
            moved = request.content_length if request.method in {"POST", "PUT"} else response.content_length
            size_bytes = 0 if request.method == "HEAD" else moved or 0
            _tolerant(lambda: limiter.limiter.hit(limit, *_budget(), cost=size_bytes), False)
        return response


def _is_transfer() -> bool:
    return not _is_exempt() and _class() in _TRANSFERS


def _budget() -> tuple[str, str]:
    return "bytes", _caller()


def _tolerant(call: Callable[[], T], otherwise: T) -> T:
    """Return the result of a call to Redis, or ``otherwise`` while Redis is unavailable."""
    try:
        return call()
    except RedisError:
        return otherwise


def _wait_s(reset_at: float) -> int:
    return max(1, math.ceil(reset_at - time.time()))


class _Window(NamedTuple):
    amount: int
    remaining: int
    reset_at: int


def _window(limiter: Limiter) -> _Window | None:
    """Return the window of this request; None if it is not counted, or if Redis was lost meanwhile."""
    limit = limiter.current_limit
    if limit is None:
        return None
    try:
        return _Window(limit.limit.amount, limit.remaining, limit.reset_at)
    except RedisError:
        return None


_REDIS_OPTIONS: dict[str, Any] = {
    "socket_timeout": _REDIS_TIMEOUT_S,
    "socket_connect_timeout": _REDIS_TIMEOUT_S,
    "retry": Retry(NoBackoff(), retries=0),
}


def _storage(settings: Settings) -> str:
    if settings.redis_url is None:
        return "memory://"
    return _OURS + settings.redis_url.get_secret_value()


def _caller() -> str:
    """Return whose requests are counted together: a key's, a user's, or otherwise an address's."""
    caller = actor()
    if _class() == "login" or is_open(request) or caller.name in _SHARED_NAMES:
        return f"address:{request.remote_addr}"
    return f"key:{caller.key_id}" if caller.key_id else f"user:{caller.name}"


_SHARED_NAMES = frozenset({"anonymous", "signed-url"})


def _class() -> RateClass:
    found = current_policy(request)
    declared = found.rate if found else None
    if declared == "download" and request.method == "GET":
        return "parts" if _CONTINUES.fullmatch(request.headers.get("Range", "")) else "download"
    if declared in (None, "download"):
        return "read" if request.method in READING else "default"
    return declared


def _is_exempt() -> bool:
    """Return whether the request is not limited: probes, metrics, documentation and CORS preflights."""
    return _class() == "uncounted" or (is_open(request) and _class() != "login")


class OneTrip(RedisStorage):
    """Redis storage with one round trip: the increment also returns the window's count and end.

    The result of ``incr`` is cached for the same thread's next calls on the same window, which read the
    values for the response headers.
    """

    STORAGE_SCHEME = [_OURS + scheme for scheme in ("redis", "rediss", "unix")]  # noqa: RUF012 - as in the base

    _INCREMENT = b"""
    local count = redis.call('INCRBY', KEYS[1], ARGV[2])
    local ttl_ms = redis.call('PTTL', KEYS[1])
    if ttl_ms < 0 then
        ttl_ms = ARGV[1] * 1000
        redis.call('PEXPIRE', KEYS[1], ttl_ms)
    end
    return {count, ttl_ms}
    """

    def __init__(self, uri: str, *, prefix: Callable[[], str], **options: Any) -> None:
        super().__init__(uri.removeprefix(_OURS), **options)
        self._prefix = prefix
        self._increment = self.get_connection().register_script(self._INCREMENT)
        self._learned = threading.local()

    def prefixed_key(self, key: str) -> str:
        return f"{self._prefix()}{super().prefixed_key(key)}"

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        count, ttl_ms = self._increment([self.prefixed_key(key)], [expiry, amount])
        self._learned.window = (key, int(count), time.time() + ttl_ms / 1000)
        return int(count)

    def get(self, key: str) -> int:
        known = getattr(self._learned, "window", None)
        return int(known[1]) if known and known[0] == key else super().get(key)

    def get_expiry(self, key: str) -> float:
        known = getattr(self._learned, "window", None)
        return float(known[2]) if known and known[0] == key else super().get_expiry(key)
