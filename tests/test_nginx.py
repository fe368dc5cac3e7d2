"""nginx in front of the registry, with the lines of docs/operations.md."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.e2e.conftest import free_ports
from tests.processes import running
from tests.test_connections import Client, answers, connections, head, is_closed
from tests.test_docs import ROOT
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

_UPLOAD_BYTES = 20_000_000
_CLIENTS = 100  # of limit_conn


def configuration(folder: Path, port: int, registry: int) -> Path:
    """Of the page's two blocks: a ``location`` of a server, and what belongs into ``http``."""
    page = (ROOT / "docs" / "operations.md").read_text()
    location, server = re.findall(r"^```nginx\n(.+?)^```$", page, re.MULTILINE | re.DOTALL)
    opening = "server {\n    listen 80;\n"
    assert opening in server
    server = server.replace(opening, f"server {{\n    listen 127.0.0.1:{port};\n{location}")
    paths = "".join(f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi"))
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; pid {folder}/nginx.pid; {'user root;' if os.geteuid() == 0 else ''} events {{}}\n"
        f"http {{ access_log off; {paths}\n{server.replace('127.0.0.1:8084', f'127.0.0.1:{registry}')}}}\n"
    )
    return path


def command(path: Path, *options: str) -> list[str]:
    return ["nginx", "-c", str(path), "-e", str(path.with_suffix(".log")), *options]


def test_the_lines_are_a_configuration_of_nginx(tmp_path: Path) -> None:
    found = subprocess.run(
        command(configuration(tmp_path, *free_ports(2)), "-t"), capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert "warn" not in found.stderr


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def nginx(path: Path, port: int) -> Iterator[None]:
    with subprocess.Popen(command(path)) as process:
        try:
            wait_for(lambda: listens(port), "nginx")
            yield
        finally:
            process.terminate()


@pytest.fixture
def proxy(settings: Settings, database: Database, tmp_path: Path) -> Iterator[int]:
    """nginx's port; the registry is behind it."""
    port, registry = free_ports(2)
    with running("model_service.api", settings, tmp_path / "log", port=registry, trusted_proxies=1):
        wait_for(lambda: answers(registry), "the registry", deadline_s=60)
        with nginx(configuration(tmp_path, port, registry), port):
            yield port


@pytest.mark.parametrize("prefix", ["", "/models"])
def test_large_files_pass_beside_slow_clients(proxy: int, prefix: str) -> None:
    client = Client(proxy)
    path = f"{prefix}/api/v1/models"
    with connections(proxy, 60, head(path, 500) + b'{"name": ') as slow:
        model = client.create_model()
        content = os.urandom(1_000_000) * (_UPLOAD_BYTES // 1_000_000)
        status, stored, _ = client.ask("PUT", f"{path}/{model}/files/large.bin", body=content)
        assert status == 201, stored
        pool = urllib3.PoolManager(retries=False, timeout=60)
        found = pool.request("GET", f"http://127.0.0.1:{proxy}{path}/{model}/files/large.bin")
        assert hashlib.sha256(found.data).digest() == hashlib.sha256(content).digest()
        assert not any(map(is_closed, slow))


def test_the_metrics_are_not_published(proxy: int) -> None:
    for prefix in ("", "/models"):
        for page, status in {"metrics": 404, "metrics/": 404, "health": 200}.items():
            url = f"http://127.0.0.1:{proxy}{prefix}/{page}"
            assert urllib3.request("GET", url, retries=False, timeout=60).status == status, url


def test_an_address_has_so_many_connections(proxy: int) -> None:
    with connections(proxy, _CLIENTS, head("/api/v1/models", 500) + b"{"):
        wait_for(lambda: not answers(proxy), "the limit")
    wait_for(lambda: answers(proxy), "room again")
