"""Processes of the service that tests start."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from model_service.config import Settings


def take_ctrl_c() -> None:
    """A shell makes what it starts in the background ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(settings: Settings) -> dict[str, str]:
    """What makes another process use the same databases and the same home."""
    assert settings.mongodb_url is not None
    assert settings.redis_url is not None
    return os.environ | {
        "MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MONGODB_DB": settings.mongodb_db,
        "MODEL_SERVICE_HOME": str(settings.home),
    }


@contextmanager
def running(
    module: str, settings: Settings, log: Path | None = None, **changes: object
) -> Iterator["subprocess.Popen[bytes]"]:
    """``python -m module`` with other ``changes`` of settings; its standard error goes into ``log``."""
    env = environment(settings) | {name.upper(): str(value) for name, value in changes.items()}
    with nullcontext() if log is None else log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", module], env=env, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def worker(settings: Settings) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    return running("model_service.jobs", settings, export_prewarm=False)
