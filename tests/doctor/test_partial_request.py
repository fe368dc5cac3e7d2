"""``model-service doctor --url`` and servers that end the connection early, over HTTP and HTTPS."""

import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from model_service.config import read_settings
from model_service.doctor import partial_request, proxy
from model_service.doctor.findings import Setup
from model_service.doctor.partial_request import Ended, send
from tests.deploy.test_nginx import certificate

OURS = {"error": {"code": "unauthorized"}, "request_id": "1"}


def response(status: int, document: object) -> bytes:
    body = json.dumps(document)
    return f"HTTP/1.1 {status} Status\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def head_of(connection: socket.socket) -> bytes:
    """Read the head of a request byte by byte, so that the body stays unread."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += connection.recv(1)
    return received


@contextmanager
def serving(
    respond: Callable[[socket.socket, socket.socket], None], context: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Call ``respond`` with each connection and the listener, then close the connection. Yields the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the end of the listener
                while True:
                    connection, _ = listener.accept()
                    with suppress(OSError):
                        if context:
                            connection = context.wrap_socket(connection, server_side=True)
                        with connection:
                            respond(connection, listener)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http{'s' if context else ''}://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture(params=["http", "https"])
def context(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    if request.param == "http":
        return None
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "models.crt"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "models.crt", tmp_path / "models.key")
    return context


def test_a_slow_body_is_sent_until_there_is_a_response(context: ssl.SSLContext | None) -> None:
    received = []

    def respond(connection: socket.socket, listener: socket.socket) -> None:
        head_of(connection)
        received.extend(connection.recv(1) for _ in range(4))
        connection.sendall(response(401, OURS))

    with serving(respond, context) as url:
        found = send(url, "POST", "/", announced=1000, pause_s=0.05, timeout_s=60)
    assert received == [b" "] * 4
    assert found is not None
    assert (found.status, found.is_ours) == (401, True)


def test_a_response_that_comes_while_the_body_is_sent(context: ssl.SSLContext | None) -> None:
    """The server does not read the body, so that its close resets the connection."""

    def respond(connection: socket.socket, listener: socket.socket) -> None:
        head_of(connection)
        connection.sendall(response(413, {}))

    with serving(respond, context) as url:
        found = send(url, "POST", "/", announced=2**30, body=bytes(2**25), timeout_s=60)
    assert found is not None
    assert found.status == 413


def test_a_server_that_does_not_read_the_body(
    context: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_request, "_CONNECT_S", 1.0)
    released = threading.Event()

    def respond(connection: socket.socket, listener: socket.socket) -> None:
        released.wait(60)

    with serving(respond, context) as url:
        assert send(url, "POST", "/", announced=2**30, body=bytes(2**25), timeout_s=2) is None
        released.set()


def test_a_connection_that_ends_without_a_response(context: ssl.SSLContext | None) -> None:
    with serving(lambda connection, listener: None, context) as url:
        for body, pause_s in ((b"", None), (bytes(2**25), None), (b"", 0.05)):
            with pytest.raises(Ended):
                send(url, "POST", "/", announced=2**30, body=body, pause_s=pause_s, timeout_s=60)


@pytest.mark.parametrize("refusing", [False, True], ids=["ends", "refuses"])
def test_no_failed_request_hides_the_next_check(context: ssl.SSLContext | None, refusing: bool) -> None:
    """After its first response, the server ends each connection or accepts none."""

    def respond(connection: socket.socket, listener: socket.socket) -> None:
        if b"/health/live" in head_of(connection):
            if refusing:
                listener.shutdown(socket.SHUT_RDWR)
            connection.sendall(response(200, {"service": "model-service"}))

    settings = read_settings(trusted_proxies=1)
    with serving(respond, context) as url:
        found = {each.check: each for each in proxy.check(Setup(settings, [], url))}
    hint = "the request fails: " + ("Connection refused" if refusing else "the connection ends without a")
    assert found.pop("proxy").status == "ok"
    if not refusing:
        assert found.pop("proxy-metrics").message == "/metrics is not public"
    assert {each.status for each in found.values()} == {"error"}
    assert all(hint in each.message for each in found.values()), found
    assert {"proxy-body-size", "proxy-streaming"} <= set(found)


def test_a_slow_request_without_a_response_is_not_one_that_the_proxy_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proxy, "_RESPONSE_S", 0.3)

    def respond(connection: socket.socket, _: socket.socket) -> None:
        while connection.recv(1024):
            pass

    with serving(respond) as url:
        found = proxy._slow_body("proxy-timeout", url, 0.1)
    assert (found.status, "gets no response within" in found.message) == ("error", True)
