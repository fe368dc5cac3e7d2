"""Connections that send nothing, or half a header, stop nobody else."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import urllib3

from model_service.config import Settings
from model_service.storage.db import Database
from tests.e2e.conftest import free_ports
from tests.embedded.waiting import wait_for
from tests.processes import running

_MANY = 2_000
_SERVERS = {"api": ("model_service.api", "port"), "inference": ("model_service.serving", "inference_port")}


@pytest.fixture(params=_SERVERS)
def server(
    request: pytest.FixtureRequest, settings: Settings, database: Database, tmp_path: Path
) -> Iterator[int]:
    module, setting = _SERVERS[request.param]
    (port,) = free_ports(1)
    with running(module, settings, tmp_path / "log", **{setting: port}):
        wait_for(lambda: answers(port), "the server", deadline_s=60)
        yield port


def answers(port: int) -> bool:
    """Whether a new connection is answered within ten seconds."""
    try:
        with urllib3.PoolManager(retries=False, timeout=10) as http:
            return http.request("GET", f"http://127.0.0.1:{port}/health/live").status == 200
    except urllib3.exceptions.HTTPError:
        return False


@contextmanager
def connections(port: int, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(count)
        ]
        for each in opened:
            each.sendall(sent)
        yield opened


def is_closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(4096) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"GET /health HTTP/1.1\r\nHost: a"])
def test_idle_connections_block_nobody_and_are_closed(server: int, sent: bytes) -> None:
    with connections(server, _MANY, sent) as opened:
        assert answers(server)
        deadline = time.monotonic() + 30
        while not all(is_closed(each) for each in opened[:: _MANY // 20]):
            assert time.monotonic() < deadline, "idle connections stay open"
            time.sleep(0.2)
