"""One large body up or down over a socket of its own, by a client that costs next to nothing."""

import socket
import time
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import orjson

_BUFFER_BYTES = 1 << 20
_TIMEOUT_S = 120.0


def download(url: str, *, bytes_per_s: float | None = None, until: Event | None = None) -> int:
    """How many bytes came: all of the body, or those before ``until``; no faster than ``bytes_per_s``."""
    with _connect(url) as connection:
        connection.sendall(_head("GET", url))
        length, body = _answer(connection)
        received, started = len(body), time.monotonic()
        buffer = bytearray(_BUFFER_BYTES if bytes_per_s is None else _BUFFER_BYTES // 8)
        while received < length and not (until and until.is_set()):
            count = connection.recv_into(buffer)
            if not count:
                raise SystemExit(f"GET {url} ended after {received:,} of {length:,} bytes")
            received += count
            if bytes_per_s is not None:
                time.sleep(max(0.0, started + received / bytes_per_s - time.monotonic()))
        return received


def upload(method: str, url: str, path: Path) -> None:
    """Send a file as the body; returns when it is acknowledged with a 2xx."""
    with _connect(url) as connection, path.open("rb") as file:
        headers = f"Content-Type: application/octet-stream\r\nContent-Length: {path.stat().st_size}\r\n"
        connection.sendall(_head(method, url, headers))
        connection.sendfile(file)
        _answer(connection)


def post_json(url: str, body: object) -> dict[str, object]:
    content = orjson.dumps(body)
    headers = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    with _connect(url) as connection:
        connection.sendall(_head("POST", url, headers) + content)
        length, answer = _answer(connection)
        while len(answer) < length:
            answer += connection.recv(_BUFFER_BYTES)
    found: dict[str, object] = orjson.loads(answer)
    return found


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout=_TIMEOUT_S)


def _head(method: str, url: str, headers: str = "") -> bytes:
    parts = urlsplit(url)
    headers = f"Host: {parts.netloc}\r\nConnection: close\r\n{headers}"
    return f"{method} {parts.path} HTTP/1.1\r\n{headers}\r\n".encode()


def _answer(connection: socket.socket) -> tuple[int, bytes]:
    """The announced length and what of the body came with the head; anything but 2xx ends the benchmark."""
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        if not piece:
            raise SystemExit("the server closed the connection without an answer")
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status, *headers = head.decode("latin-1").split("\r\n")
    if not status.split(" ")[1].startswith("2"):
        raise SystemExit(f"answered {status}: {body.decode(errors='replace')}")
    lengths = [line.partition(":")[2] for line in headers if line.lower().startswith("content-length:")]
    return int(lengths[0]) if lengths else 0, body
