"""Redis: the connection, the memory policy and the clock."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from model_service.config import SettingsError, Unreachable, is_loopback
from model_service.doctor import clocks
from model_service.doctor.findings import Finding, Setup, error, ok, warning
from model_service.storage.common.shared_redis import check_redis
from model_service.storage.operations.examination import examine_redis


def check(setup: Setup) -> Iterator[Finding]:
    try:
        check_redis(setup.settings)
        facts = examine_redis(setup.settings)
    except Unreachable as exc:
        yield error("redis", f"{exc}. Start it, or correct its address, the name server or the firewall")
        return
    except SettingsError as exc:
        yield error("redis", str(exc))
        return
    except RedisError as exc:
        yield error(
            "redis", f"REDIS_URL: a command failed: {type(exc).__name__}. The user needs PING, TIME and INFO"
        )
        return
    yield ok("redis", f"Redis {facts.version} responds and accepts the connection")
    if not facts.has_password and facts.host and not is_loopback(facts.host):
        yield warning(
            "redis-password",
            "REDIS_URL has no password, and Redis requires none: every program that reaches it may change "
            "the queue. Set requirepass, see docs/hosts.md",
        )
    if facts.evicts:
        yield warning(
            "redis-memory",
            f"maxmemory-policy is {facts.policy}: Redis may delete waiting jobs. Set it to noeviction",
        )
    else:
        yield ok("redis-memory", "Redis deletes no keys to free memory")
    yield clocks.judge("redis-clock", "Redis", facts.ahead_s)
