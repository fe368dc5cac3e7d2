"""The whole service as a user starts it: ``model-service up``, in a data folder of its own."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_service.client import ClientError, ModelServiceClient
from tests import waiting

NAMES = ("mongod", "redis", "api", "worker", "inference")

# A service that is away for a moment counts as false.
wait_for = functools.partial(waiting.wait_for, ignoring=(ClientError, OSError))


@dataclass(frozen=True)
class Stack:
    data_dir: Path
    process: subprocess.Popen[bytes]

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data_dir / "up.json").read_text())
        return found

    def kill(self, name: str) -> None:
        """``kill -9``, and wait until another process has taken its place."""
        pid = self.report["pids"][name]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: self.report["pids"][name] != pid, f"{name} to be started again")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(data_dir: Path, **settings: str) -> Iterator[Stack]:
    """``model-service up`` in that folder."""
    port, inference_port = free_ports(2)
    env = {name: value for name, value in os.environ.items() if name not in ("MONGODB_URL", "REDIS_URL")}
    command = [sys.executable, "-m", "model_service.cli", "up", "--data-dir", str(data_dir)]
    log = data_dir / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--inference-port", str(inference_port)],
            env=env | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()
        return (data_dir / "up.json").exists()

    try:
        wait_for(is_up, "the service to be up")
        yield Stack(data_dir, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A conversion that starts cold takes some seconds: long enough to be killed in the middle.
    settings = {"MAX_FILE_SIZE": "5GB", "EXPORT_PREWARM": "false", "DOWNLOAD_TIMEOUT": "3600"}
    with running(tmp_path_factory.mktemp("up"), **settings) as stack:
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[ModelServiceClient]:
    with ModelServiceClient(stack.report["api"]) as client:
        yield client
