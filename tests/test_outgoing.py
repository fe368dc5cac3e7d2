"""Requests to users' addresses reach no inner address: nothing is sent, and not even a connection opened."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from model_service.outgoing import (
    Refused,
    Response,
    TooLate,
    _tls,
    checked_addresses,
    checked_url,
    post,
    resolve,
)
from tests.receiver import Receiver

LOOPBACK = [ip_network("127.0.0.0/8")]


class Listener:
    """A port of this machine that counts connections and the bytes that they bring."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            connected.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.socket.close()


def send(url: str, *, allowed: bool = True, resolved: Callable[[str, int], list[str]] = resolve) -> Response:
    networks = LOOPBACK if allowed else []
    return post(url, b"{}", {"webhook-id": "1"}, allowed=networks, timeout_s=5, resolved=resolved)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "2130706433",
            "0x7f.1",
            "127.1",
        ),
        *("10.0.0.1", "172.16.9.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "240.0.0.1"),
        *("[fe80::1]", "[fd00::1]", "[2002:7f00:1::]", "[64:ff9b::a00:1]", "[::]", "[ff02::1]", "[fec0::1]"),
        *("[3fff::1]", "192.0.0.8"),
    ],
)
def test_inner_addresses_are_refused(host: str, listener: Listener) -> None:
    for scheme in ("http", "https"):
        with pytest.raises(Refused, match="internal address"):
            send(f"{scheme}://{host}:{listener.port}/", allowed=False)
    assert listener.connections == 0


def test_a_name_of_which_one_address_is_inner_is_refused(listener: Listener) -> None:
    with pytest.raises(Refused, match="internal address"):
        send(
            f"https://example.com:{listener.port}/",
            allowed=False,
            resolved=lambda host, port: ["93.184.216.34", "127.0.0.1"],
        )
    assert listener.connections == 0


def test_a_name_that_resolves_to_an_inner_address_after_the_check_is_refused(listener: Listener) -> None:
    """DNS rebinding: the name is allowed at the webhook's creation, and resolves to loopback later."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    url = f"https://rebinding.example.com:{listener.port}/"
    assert checked_addresses(url, [], rebinding)[1] == ["93.184.216.34"]
    with pytest.raises(Refused, match="internal address"):
        send(url, allowed=False, resolved=rebinding)
    assert asked == ["rebinding.example.com"] * 2
    assert listener.connections == 0


def test_a_name_is_resolved_once_for_a_request() -> None:
    """The connection goes to the checked address, whatever the name would resolve to by then."""
    answers = iter([["127.0.0.1"]])
    with Receiver() as receiver:
        url = f"http://events.example.com:{receiver.port}/x?y=1"
        assert send(url, resolved=lambda host, port: next(answers)).status == 204
        (received,) = receiver.received
        assert received.headers["host"] == f"events.example.com:{receiver.port}"
    with pytest.raises(StopIteration):
        next(answers)


def test_nothing_is_sent_after_the_latest_time() -> None:
    with Receiver() as receiver:
        with pytest.raises(TooLate):
            post(receiver.url, b"{}", {}, allowed=LOOPBACK, timeout_s=5, latest=time.monotonic())
        assert receiver.received == []


def test_a_name_that_is_none_is_an_error_of_the_network() -> None:
    for host in ("a..example", "x" * 64 + ".example"):
        with pytest.raises(OSError, match="is not a host name"):
            resolve(host, 443)


def test_redirects_are_not_followed(listener: Listener) -> None:
    with Receiver(lambda received: 307) as receiver:
        receiver.headers["Location"] = f"http://127.0.0.1:{listener.port}/"
        assert send(receiver.url).status == 307
    assert listener.connections == 0


def test_an_external_host_needs_https() -> None:
    with pytest.raises(Refused, match="use https"):
        send("http://93.184.216.34/", allowed=False)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://example.com/",
            "https:///x",
            "example.com",
            "https://user:word@example.com/",
            "https://h:0/",
        ),
        *("https://example.com/#x", "https://example.com:99999/", "https://exa mple.com/", "https://[::1/"),
        *("https://example.com/\r\nX: 1", "https://bücher.example/", "https://example.com/" + "x" * 2048),
    ],
)
def test_malformed_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        checked_url(url)
    with pytest.raises(Refused):
        send(url)


@contextmanager
def answering(handle: Callable[[socket.socket], None]) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            connected, _ = server.accept()
            with connected:
                try:
                    handle(connected)
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def test_a_response_that_drips_ends_at_the_timeout_of_the_whole_request() -> None:
    """Each byte arrives in time; the whole does not."""

    def drip(connected: socket.socket) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            connected.sendall(bytes([byte]))
            time.sleep(0.05)

    with answering(drip) as url, pytest.raises(TimeoutError, match=r"no complete response within 0\.5 s"):
        post(url, b"{}", {}, allowed=LOOPBACK, timeout_s=0.5)


def test_only_the_beginning_of_a_response_is_read() -> None:
    def flood(connected: socket.socket) -> None:
        connected.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            connected.sendall(b"x" * 65536)

    with answering(flood) as url:
        assert send(url) == Response(200, "x" * 1000)


def test_the_status_counts_though_the_body_never_ends() -> None:
    def stall(connected: socket.socket) -> None:
        connected.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\nok")
        connected.recv(65536)
        connected.recv(1)

    with answering(stall) as url:
        assert post(url, b"{}", {}, allowed=LOOPBACK, timeout_s=0.5).status == 202


@pytest.fixture
def secure_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver with a certificate for events.example.com, which this process trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=events"),
            *("-addext", "subjectAltName=DNS:events.example.com"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _tls.cache_clear()
    with Receiver(tls=context) as receiver:
        yield receiver
    _tls.cache_clear()


def test_a_certificate_is_checked_with_the_name(secure_receiver: Receiver) -> None:
    def to_loopback(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    port = secure_receiver.port
    assert send(f"https://events.example.com:{port}/", resolved=to_loopback).status == 204
    with pytest.raises(ssl.SSLCertVerificationError):
        send(f"https://other.example.com:{port}/", resolved=to_loopback)
    assert len(secure_receiver.received) == 1
