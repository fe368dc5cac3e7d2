"""A real redis-server on loopback. It only holds ids, and keeps them across restarts."""

from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from model_service.embedded.binaries import find_redis_server


def argv(folder: Path, port: int) -> list[str]:
    """Return the redis-server command. Raises MissingBinary: no redis-server on this machine."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return [
        str(find_redis_server()),
        *("--bind", "127.0.0.1"),
        *("--port", str(port)),
        *("--dir", str(folder)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),  # no snapshots: after a failed one, Redis would reject every write
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
    ]


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


def answers(port: int) -> bool:
    """Return whether Redis responds; False also while it loads its file."""
    client = Redis(
        host="127.0.0.1",
        port=port,
        socket_connect_timeout=0.3,
        socket_timeout=0.5,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(client.ping())
    except RedisError:
        return False
    finally:
        client.close()
