"""Whether what MONGODB_URL and REDIS_URL name answers: said within 5 s, and never with a password."""

import pymongo
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from model_service.config import redact_url
from model_service.embedded.errors import Unreachable

_TIMEOUT_S = 3.0
_NOT_ALLOWED = (13, 18)  # MongoDB's Unauthorized and AuthenticationFailed


def check_mongodb(url: str) -> None:
    """Raises Unreachable."""
    milliseconds = int(_TIMEOUT_S * 1000)
    try:
        with (
            MongoClient[dict[str, object]](
                url, serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds
            ) as client,
            pymongo.timeout(_TIMEOUT_S),
        ):
            client.admin.command(
                "listDatabases", nameOnly=True
            )  # unlike ping, needs a user where there are any
    except OperationFailure as exc:
        if exc.code in _NOT_ALLOWED:
            raise _refused("MONGODB_URL", url) from None
        raise _silent("MONGODB_URL", url, exc) from None
    except (PyMongoError, ValueError) as exc:
        raise _silent("MONGODB_URL", url, exc) from None


def check_redis(url: str) -> None:
    """Raises Unreachable."""
    try:
        with Redis.from_url(
            url,
            socket_connect_timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
    except AuthenticationError:
        raise _refused("REDIS_URL", url) from None
    except (RedisError, ValueError) as exc:
        raise _silent("REDIS_URL", url, exc) from None


# The libraries' own messages are left out of both: some of them quote the URL.


def _refused(variable: str, url: str) -> Unreachable:
    return Unreachable(
        f"{variable}: {redact_url(url)} does not accept the user and password given. Correct {variable}."
    )


def _silent(variable: str, url: str, exc: Exception) -> Unreachable:
    return Unreachable(
        f"{variable}: no answer from {redact_url(url)} ({type(exc).__name__}). "
        f"Start that server, correct {variable}, or unset it to have one started here."
    )
