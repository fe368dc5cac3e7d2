"""Connections that send nothing, half a header or a slow body do not delay other clients."""

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3

from model_service.config import Settings
from model_service.storage.common.db import Database
from tests.e2e.conftest import free_ports
from tests.factories import new_model
from tests.flood import flooded
from tests.processes import running
from tests.serving.conftest import KEY, World, package_zip, world  # noqa: F401 - fixtures
from tests.waiting import wait_for

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
        with urllib3.PoolManager(retries=False, timeout=10) as pool:
            return pool.request("GET", f"http://127.0.0.1:{port}/health/live").status == 200
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


_KEY = "a-key-of-16-characters"
Registry = Callable[..., int]


@pytest.fixture
def registry(settings: Settings, database: Database, tmp_path: Path) -> Iterator[Registry]:
    """Starts a registry with changed settings. Returns its port."""
    with ExitStack() as stack:

        def start(**changes: object) -> int:
            (port,) = free_ports(1)
            stack.enter_context(
                running("model_service.api", settings, tmp_path / "log", port=port, **changes)
            )
            wait_for(lambda: answers(port), "the registry", deadline_s=60)
            return port

        yield start


def head(path: str, length: int, method: str = "POST", **headers: str) -> bytes:
    fields = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(length)} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return (
        f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"
    ).encode()


class Client:
    """One kept connection, without a second try."""

    def __init__(self, port: int, **headers: str) -> None:
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1, retries=False, timeout=20)
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, dict[str, str]]:
        answer = self._pool.request(method, path, headers=self._headers, **options)
        return answer.status, answer.json(), {name.lower(): value for name, value in answer.headers.items()}

    def create_model(self) -> str:
        status, created, _ = self.ask("POST", "/api/v1/models", json=new_model())
        assert status == 201, created
        return str(created["model_id"])


def read_answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """The status line with the headers, and the body, up to the end of the connection."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    before, _, body = answer.partition(b"\r\n\r\n")
    return before.lower(), body


@pytest.mark.parametrize("enable_auth", [False, True])
def test_slow_bodies_delay_no_request(registry: Registry, enable_auth: bool) -> None:
    port = registry(api_threads=8, enable_auth=enable_auth, api_key=_KEY)
    client = Client(port, X_API_Key=_KEY)
    model = client.create_model()
    url = f"/api/v1/models/{model}"
    known = {"X_API_Key": _KEY}
    slow = head("/api/v1/models", 500, **known) + b'{"name": '
    upload = head(f"{url}/upload", 5_000_000, **known) + b"begun"
    unknown = head("/api/v1/models", 500, X_API_Key="nobodys") + b"{"
    with connections(port, 60, slow), connections(port, 60, upload), connections(port, 60, unknown):
        for _ in range(20):
            client.create_model()
            assert client.ask("GET", url)[0] == 200
        assert client.ask("PUT", f"{url}/files/small.bin", body=b"x" * 100_000)[0] == 201


def test_a_slow_body_is_refused_and_a_living_one_is_not(registry: Registry) -> None:
    port = registry(body_grace_s=1, body_min_rate=1000)
    client = Client(port)
    model = client.create_model()
    living = head(f"/api/v1/models/{model}/files/a.bin", 12_000, "PUT", Connection="close")
    with (
        connections(port, 5, head("/api/v1/models", 500) + b"{") as slow,
        connections(port, 1, living) as (link,),
    ):
        for _ in range(30):  # 4,000 bytes a second, for three times the grace
            link.sendall(b"x" * 400)
            time.sleep(0.1)
        assert b" 201 " in read_answer(link)[0]
        for each in slow:
            before, body = read_answer(each)
            assert before.startswith(b"http/1.1 408 ")
            assert b"connection: close" in before
            assert json.loads(body)["error"]["code"] == "body_timeout"
    client.create_model()


def test_the_slowest_body_makes_room_for_another(registry: Registry) -> None:
    port = registry(api_bodies=10)
    client = Client(port)
    with connections(port, 10, head("/api/v1/models", 500) + b"{") as slow:
        # Refused with Retry-After until one of them has sent nothing for a second.
        wait_for(
            lambda: client.ask("POST", "/api/v1/models", json=new_model())[0] == 201, "room", deadline_s=20
        )
        wait_for(lambda: any(map(is_closed, slow)), "the slowest to be closed", deadline_s=20)
        assert not all(map(is_closed, slow))


def test_a_refused_body_does_not_break_the_next_request(server: int) -> None:
    client = Client(server)
    kept = http.client.HTTPConnection("127.0.0.1", server, timeout=20)
    for path in ("/nothing", "/v1/infer/nothing"):
        for _ in range(3):
            kept.request("POST", path, b"x" * 100)
            assert b"not_found" in kept.getresponse().read()
            assert kept.sock is not None  # a small body was read
            status, answer, headers = client.ask("POST", path, body=b"x" * 40_000_000)
            assert (status, answer["error"]["code"]) == (404, "not_found")
            assert headers["connection"] == "close"
            assert client.ask("GET", "/health/live")[0] == 200


_FLOOD_S = float(os.environ.get("ENDURANCE_SECONDS", 120))
_PERIOD_S = 0.02  # a request of the client that is measured


def latencies(ask: Callable[[], object]) -> list[float]:
    """Seconds of each of as many requests as there are periods in the time of a flood, sorted."""
    taken = []
    began = time.monotonic()
    for number in range(int(_FLOOD_S / _PERIOD_S)):
        time.sleep(max(0.0, began + number * _PERIOD_S - time.monotonic()))
        asked = time.monotonic()
        ask()
        taken.append(time.monotonic() - asked)
    return sorted(taken)


@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], [f"127.0.0.{n}" for n in range(2, 251)]], ids=["one", "many"]
)
def test_a_flood_of_connections_fails_no_request(
    server: int,
    addresses: list[str],
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither a creation at the registry nor a prediction of the inference server."""
    client = Client(server, Authorization=f"Bearer {KEY}")
    asked: Callable[[], object] = client.create_model
    if (name := request.node.callspec.params["server"]) == "inference":
        world: World = request.getfixturevalue("world")
        deployment_id = world.deploy(request.getfixturevalue("package_zip"))
        wait_for(lambda: world.status(deployment_id) == "active", "the deployment", deadline_s=60)

        def asked() -> None:
            body = {"inputs": [[1.0, 2.0, 3.0]]}
            status, answer, _ = client.ask("POST", f"/v1/infer/{deployment_id}", json=body)
            assert (status, answer["outputs"]) == (200, {"output": [[2.0, 4.0, 6.0]]})

    before = latencies(asked)
    with flooded(server, addresses):
        during = latencies(asked)
        assert client.ask("GET", "/health/live")[0] == 200
    p99, p99_during, p50, p50_during = (
        each[int(len(each) * share)] * 1000 for share in (0.99, 0.5) for each in (before, during)
    )
    with capsys.disabled():
        print(
            f"\n{name}, {len(addresses)} addresses, {len(during)} requests: "
            f"p50 {p50:.1f} → {p50_during:.1f} ms, p99 {p99:.1f} → {p99_during:.1f} ms: "
            f"{p99_during / p99:.2f} times"
        )
