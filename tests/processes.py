"""Processes of the service that tests start."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from model_service.config import Settings


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
def worker(settings: Settings) -> Iterator[None]:
    env = environment(settings) | {"EXPORT_PREWARM": "false"}
    process = subprocess.Popen([sys.executable, "-m", "model_service.jobs"], env=env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)
