"""mongod and Redis alone, for as long as a block lasts: what the tests run on."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from model_service.embedded import family, mongo, redis
from model_service.embedded.errors import StartFailed
from model_service.embedded.lock import locked
from model_service.embedded.ports import remembered_port

_START_S = 60.0


@dataclass(frozen=True)
class Addresses:
    """Where things listen; the two servers of HTTP are None where only the databases run."""

    mongodb_url: str
    redis_url: str
    api: str | None = None
    inference: str | None = None


@contextmanager
def servers(data_dir: Path, *, cache_gb: float | None = 0.25) -> Iterator[Addresses]:
    """Starts both, waits until they take writes, and ends them after the block. Logs: ``data_dir/*.log``.

    Raises:
        DataFolderInUse, DataFolderUnusable, MissingBinary, PortInUse, StartFailed.
    """
    with locked(data_dir) as lock, ExitStack() as running:
        mongodb_port = remembered_port(data_dir / "mongodb.port")
        redis_port = remembered_port(data_dir / "redis.port")
        mongod = mongo.argv(data_dir / "mongodb", mongodb_port, cache_gb)
        redis_server = redis.argv(data_dir / "redis", redis_port)
        running.enter_context(family.guarded(lock.run, lock.fd))
        mongod_ready = running.enter_context(_started(mongod, data_dir / "mongod.log", lock.run))
        redis_ready = running.enter_context(_started(redis_server, data_dir / "redis.log", lock.run))
        mongod_ready(lambda: mongo.is_primary(mongodb_port))
        redis_ready(lambda: redis.answers(redis_port))
        yield Addresses(mongo.url(mongodb_port), redis.url(redis_port))


@contextmanager
def _started(argv: list[str], log: Path, run: str) -> Iterator[Callable[[Callable[[], bool]], None]]:
    """Yields a function that waits until the probe given to it holds, or raises StartFailed."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            env=os.environ | {family.MARK: run},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until(ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                last_lines = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
                raise StartFailed(f"{argv[0]} did not start:\n{last_lines}")
            time.sleep(0.02)

    with process:
        try:
            yield wait_until
        finally:
            family.end(lambda: family.of_session(process.pid), grace_s=4)
