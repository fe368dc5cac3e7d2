"""The real service in a process of its own, and a server that misbehaves on demand."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from model_service.client import AsyncInferenceClient, ModelServiceClient
from model_service.config import Settings
from model_service.embedded import Addresses
from model_service.storage.common.db import Database
from model_service.storage.common.documents import Secret
from model_service.storage.migrations import prepare
from tests.conftest import settings_of

from .scripted import Scripted, scripted
from .wire import Predict

START_DEADLINE_S = 30


@pytest.fixture
def script() -> Iterator[Scripted]:
    with scripted() as server:
        server.listen()
        yield server


class Service:
    """``python -m model_service.api``, always at the same address."""

    def __init__(self, settings: Settings, log: Path, **env: str) -> None:
        assert settings.mongodb_url is not None
        assert settings.redis_url is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._env = os.environ | {
            "MONGODB_URL": settings.mongodb_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "MONGODB_DB": settings.mongodb_db,
            "MODEL_SERVICE_HOME": str(settings.home),
            "PORT": str(port),
            **env,
        }

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "model_service.api"],
                env=self._env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _wait_until_healthy(self.url, self._process, self._log)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """All of its processes, at once, in whatever they are doing."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=20)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


class Shared:
    """A service that the tests of a session have one after another, each with an empty database.

    The service remembers the secrets that it generated: the next test finds them in the database again.
    """

    def __init__(self, service: Service, database: Database) -> None:
        self._service, self._database = service, database
        self._secrets: list[Secret] = []

    @contextmanager
    def lent(self) -> Iterator[Service]:
        prepare(self._database)
        if self._secrets:
            self._database.secrets.insert_many(self._secrets)
        if not self._service.is_running():
            self._service.start()
        try:
            yield self._service
        finally:
            self._secrets = list(self._database.secrets.find())


@pytest.fixture(scope="session")
def shared(
    servers: Addresses, database_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Shared]]:
    """Shared services, by their settings."""
    with ExitStack() as stack:

        @cache
        def start(**env: str) -> Shared:
            home = tmp_path_factory.mktemp("service")
            settings = settings_of(servers, database_name, home)
            database = Database(settings)
            stack.callback(database.close)
            service = Service(settings, home / "api.log", **env)
            stack.callback(service.stop)
            service.start()
            return Shared(service, database)

        yield start


@pytest.fixture
def service(settings: Settings, shared: Callable[..., Shared]) -> Iterator[Service]:
    with shared().lent() as service:
        yield service


@pytest.fixture
def service_url(service: Service) -> str:
    return service.url


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


@pytest.fixture(params=["sync", "async"])
def predict(request: pytest.FixtureRequest) -> Iterator[Predict]:
    """Either client's, the same for all calls of a test."""
    if request.param == "sync":
        with ModelServiceClient("http://127.0.0.1:9") as client:
            yield client.predict
        return
    with asyncio.Runner() as runner:

        async def made() -> AsyncInferenceClient:
            return AsyncInferenceClient()

        asking = runner.run(made())
        yield lambda *args, **more: runner.run(asking.predict(*args, **more))
        runner.run(asking.close())
