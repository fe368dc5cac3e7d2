"""The real service in a process of its own, and a server that misbehaves on demand."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_service.client import ModelServiceClient
from model_service.config import Settings

from .scripted import Scripted, scripted

START_DEADLINE_S = 30


@pytest.fixture
def script() -> Iterator[Scripted]:
    with scripted() as server:
        server.listen()
        yield server


@pytest.fixture
def service_url(settings: Settings, tmp_path: Path) -> Iterator[str]:
    """``python -m model_service.api`` on the test's own database."""
    assert settings.mongodb_url is not None
    assert settings.redis_url is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "MONGODB_URL": settings.mongodb_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "MONGODB_DB": settings.mongodb_db,
        "MODEL_SERVICE_HOME": str(settings.home),
        "PORT": str(port),
    }
    log = tmp_path / "api.log"
    with log.open("wb") as output:
        api = subprocess.Popen(
            [sys.executable, "-m", "model_service.api"], env=env, stdout=output, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_healthy(url, api, log)
        yield url
    finally:
        api.terminate()
        api.wait(timeout=20)


@pytest.fixture
def client(service_url: str) -> Iterator[ModelServiceClient]:
    with ModelServiceClient(service_url) as client:
        yield client


def _wait_until_healthy(url: str, api: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        assert api.poll() is None, f"the API ended at its start:\n{log.read_text()}"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"the API was not healthy within {START_DEADLINE_S} s:\n{log.read_text()}")
