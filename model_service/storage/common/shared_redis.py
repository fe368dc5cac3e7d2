"""Redis with a prefix: installations may share a Redis, so all names begin with the installation's id.

The prefix is added to every command when it is sent, so RQ's keys have it too. A command whose keys are
not known here is rejected, so that no command is sent without the prefix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from redis import Redis
from redis.backoff import NoBackoff
from redis.client import Pipeline, PubSub
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError
from redis.retry import Retry

from model_service.config import CERTIFICATE, Settings, SettingsError, Unreachable, redact_url
from model_service.storage.common.secrets import Secrets

if TYPE_CHECKING:
    from redis.typing import PatternT, PubSubHandler, Subscription

# The prefix is read from MongoDB when the first command is sent.
Prefix = Callable[[], str]
_CHECK_S = 3.0

_ONE_KEY = frozenset(
    {
        *("EXPIRE", "GET", "PERSIST", "PEXPIRE", "PTTL", "PUBLISH", "SET", "SETEX", "TTL"),
        *("HDEL", "HGET", "HGETALL", "HINCRBY", "HINCRBYFLOAT", "HLEN", "HMGET", "HSET", "HSETNX", "HVALS"),
        *("LINDEX", "LLEN", "LPOP", "LPOS", "LPUSH", "LRANGE", "LREM", "RPOP", "RPUSH"),
        *("SADD", "SCARD", "SISMEMBER", "SMEMBERS", "SREM"),
        *("XADD", "XDEL", "XLEN", "XRANGE", "XREVRANGE", "XTRIM"),
        *("ZADD", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZREM", "ZSCORE"),
        *("ZREMRANGEBYRANK", "ZREMRANGEBYSCORE"),
    }
)
_TWO_KEYS = frozenset({"BLMOVE", "LMOVE", "RENAME"})
_ONLY_KEYS = frozenset({"DEL", "EXISTS", "MGET", "UNLINK", "WATCH"})
_KEYS_AND_TIMEOUT = frozenset({"BLPOP"})  # returns the key and the value
_NO_KEY = frozenset({"CLIENT", "CONFIG", "INFO", "PING", "SCRIPT", "TIME", "UNWATCH"})
_SCRIPTS = frozenset({"EVAL", "EVALSHA"})


def connect(settings: Settings, secrets: Secrets, timeout_s: float | None) -> Redis:
    """Return a client that connects on first use, with one attempt of ``timeout_s``; None: no timeout.

    Raises:
        SettingsError: REDIS_URL is missing or malformed.
    """
    url = redis_url(settings)
    if timeout_s is None:
        client = _Client.from_url(url)
    else:
        retry = Retry(NoBackoff(), retries=0)
        client = _Client.from_url(
            url, socket_connect_timeout=timeout_s, socket_timeout=timeout_s, retry=retry
        )
    assert isinstance(client, _Client)
    client.prefix = lambda: secrets.redis_prefix
    return client


def redis_url(settings: Settings) -> str:
    """Return REDIS_URL. Raises: SettingsError: it is missing or malformed."""
    if settings.redis_url is None:
        raise SettingsError(
            "REDIS_URL is not set: set it to a running server, or run 'model-service up', which starts one"
        )
    url = settings.redis_url.get_secret_value()
    try:
        Redis.from_url(url)
    except ValueError as exc:
        raise SettingsError(f"REDIS_URL is not the address of a Redis: {exc}") from None
    return url


def check_redis(settings: Settings) -> None:
    """Connect once. Raises: SettingsError: no URL, or Redis rejects us. Unreachable: it does not respond."""
    url = redis_url(settings)
    address = redact_url(url)
    try:
        with Redis.from_url(
            url, socket_connect_timeout=_CHECK_S, socket_timeout=_CHECK_S, retry=Retry(NoBackoff(), 0)
        ) as client:
            client.ping()
    except AuthenticationError:
        raise SettingsError(
            f"REDIS_URL: {address} does not accept the user and the password: correct them, as in "
            "redis://:PASSWORD@HOST/"
        ) from None
    except (ResponseError, InvalidResponse) as exc:
        raise SettingsError(f"REDIS_URL: {address} cannot be used: {exc}") from None
    except RedisError as exc:
        if CERTIFICATE in str(exc):
            raise SettingsError(
                f"REDIS_URL: {address} has a certificate that is not trusted (see ssl_ca_certs)"
            ) from None
        raise Unreachable(f"REDIS_URL: no response from {address}") from None
    except OSError as exc:  # of a file in the URL
        raise SettingsError(f"REDIS_URL: {exc.filename} cannot be read: {exc.strerror}") from None


def _prefixed(arguments: tuple[object, ...], prefix: Prefix) -> tuple[object, ...]:
    """Return the command with prefixed keys."""
    command = str(arguments[0]).partition(" ")[0].upper()
    if command in _NO_KEY:
        return arguments
    if command in _ONE_KEY:
        first, last = 1, 2
    elif command in _TWO_KEYS:
        first, last = 1, 3
    elif command in _ONLY_KEYS:
        first, last = 1, len(arguments)
    elif command in _KEYS_AND_TIMEOUT:
        first, last = 1, len(arguments) - 1
    elif command in _SCRIPTS:
        first, last = 3, 3 + int(str(arguments[2]))
    else:
        raise NotImplementedError(f"shared_redis does not know the keys of the command {command}.")
    start = prefix().encode()
    keys = [start + _bytes(key) for key in arguments[first:last]]
    return (*arguments[:first], *keys, *arguments[last:])


def _bytes(key: object) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()


class _Client(Redis):
    prefix: Prefix

    def execute_command(self, *arguments: object, **options: object) -> object:
        answer = super().execute_command(*_prefixed(arguments, self.prefix), **options)  # type: ignore[no-untyped-call]
        if arguments[0] in _KEYS_AND_TIMEOUT and answer is not None:
            key, value = answer
            return [key.removeprefix(self.prefix().encode()), value]
        return answer

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.prefix = self.prefix
        return pipeline

    def pubsub(self, **options: object) -> PubSub:
        pubsub = _PubSub(self.connection_pool, **options)  # type: ignore[arg-type]  # the caller names them
        pubsub.prefix = self.prefix
        return pubsub


class _Pipeline(Pipeline):
    prefix: Prefix

    def execute_command(self, *arguments: object, **options: object) -> object:
        return super().execute_command(*_prefixed(arguments, self.prefix), **options)  # type: ignore[no-untyped-call]


class _PubSub(PubSub):
    prefix: Prefix

    def subscribe(self, *channels: object, **handlers: PubSubHandler) -> None:
        start = self.prefix()
        named = {f"{start}{channel}": handler for channel, handler in handlers.items()}
        super().subscribe(*(f"{start}{channel}" for channel in channels), **named)

    def psubscribe(self, *patterns: PatternT | Subscription, **handlers: PubSubHandler) -> None:
        raise NotImplementedError("shared_redis subscribes to channels, not to patterns.")
