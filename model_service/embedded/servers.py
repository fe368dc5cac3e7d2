"""Only mongod and Redis, for the duration of a block: the servers for the tests."""

import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_service.embedded import mongo, redis
from model_service.embedded.errors import StartFailed
from model_service.embedded.family import Family, guarded
from model_service.embedded.lock import locked
from model_service.embedded.ports import remembered_port

_START_S = 60.0


@dataclass(frozen=True)
class Addresses:
    """Addresses of the servers; the two HTTP servers are None if only the databases run."""

    mongodb_url: str
    redis_url: str
    api: str | None = None
    inference: str | None = None


@contextmanager
def servers(data_dir: Path, *, cache_gb: float | None = 0.25) -> Iterator[Addresses]:
    """Start both, wait until they accept writes, and end them after the block. Logs: ``data_dir/*.log``.

    Raises:
        DataFolderInUse, DataFolderUnusable, MissingBinary, PortInUse, StartFailed.
    """
    with locked(data_dir) as lock:
        mongodb_port = remembered_port(data_dir / "mongodb.port")
        redis_port = remembered_port(data_dir / "redis.port")
        mongod = mongo.argv(data_dir / "mongodb", mongodb_port, cache_gb)
        redis_server = redis.argv(data_dir / "redis", redis_port)
        with guarded(data_dir, lock) as family:
            mongod_ready = _start(family, mongod, data_dir / "mongod.log")
            redis_ready = _start(family, redis_server, data_dir / "redis.log")
            mongod_ready(lambda: mongo.is_primary(mongodb_port))
            redis_ready(lambda: redis.answers(redis_port))
            yield Addresses(mongo.url(mongodb_port), redis.url(redis_port))


def _start(family: Family, argv: list[str], log: Path) -> Callable[[Callable[[], bool]], None]:
    """Start a server. Returns a function that waits until a probe returns True, or raises StartFailed."""
    with log.open("ab") as output:
        member = family.spawn(argv, family.environment(), output.fileno())

    def wait_until(ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while not ready():
            while select.select([family], [], [], 0)[0]:
                family.receive()
            if member.code is not None or time.monotonic() > deadline:
                last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise StartFailed(f"{argv[0]} did not start:\n{last_lines}")
            time.sleep(0.02)

    return wait_until
