"""A small HTTP/1.1 client that asks as fast as it is answered, over connections that stay open.

One process and one selector: it costs some 30 µs a request, so the servers, not it, are what is measured.
Every answer must be a 2xx with a length; whatever else comes ends the measurement.
"""

import itertools
import selectors
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import orjson

TIMEOUT_S = 60.0


@dataclass
class Load:
    """What came of a measurement: how long each request took."""

    seconds: float
    latencies_s: list[float] = field(repr=False)

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.latencies_s) * 1000


class Target:
    """A server and how requests to it are written."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.address = (parts.hostname, parts.port or 80)
        self._host = f"{parts.hostname}:{parts.port}"

    def get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode()

    def post(self, path: str, body: object) -> bytes:
        content = orjson.dumps(body)
        head = f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self.address, timeout=TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def ask(self, request: bytes) -> bytes:
        """One request over a connection of its own; its answer's body."""
        with self.connect() as connection:
            connection.sendall(request)
            return _read(connection)


class BadAnswer(Exception):
    """Not a 2xx with a length."""


def one_by_one(target: Target, requests: list[bytes]) -> Load:
    """Every request after the answer to the one before, over one connection."""
    latencies = []
    with target.connect() as connection:
        started = time.perf_counter()
        for request in requests:
            sent = time.perf_counter()
            connection.sendall(request)
            _read(connection)
            latencies.append(time.perf_counter() - sent)
        return Load(time.perf_counter() - started, latencies)


def at_once(target: Target, requests: Iterator[bytes], *, connections: int, seconds: float) -> Load:
    """As many requests as are answered in that time, over so many connections."""
    selector = selectors.DefaultSelector()
    latencies: list[float] = []
    open_connections = [target.connect() for _ in range(connections)]
    for connection in open_connections:
        selector.register(connection, selectors.EVENT_READ, _Exchange(connection, requests))
    started = time.perf_counter()
    end = started + seconds
    running = connections
    while running:
        ready = selector.select(TIMEOUT_S)
        if not ready:
            raise BadAnswer("no answer in time")
        for key, _ in ready:
            exchange: _Exchange = key.data
            took = exchange.receive()
            if took is None:
                continue
            latencies.append(took)
            if time.perf_counter() < end:
                exchange.send()
            else:
                selector.unregister(exchange.connection)
                running -= 1
    elapsed = time.perf_counter() - started
    for connection in open_connections:
        connection.close()
    return Load(elapsed, latencies)


def median_of(rounds: int, measure: Callable[[], Load]) -> Load:
    """The round in the middle by its p50."""
    return sorted((measure() for _ in range(rounds)), key=lambda load: load.p50_ms)[rounds // 2]


def repeated(requests: list[bytes]) -> Iterator[bytes]:
    return itertools.cycle(requests)


class _Exchange:
    """One connection: the request under way and what came of its answer."""

    def __init__(self, connection: socket.socket, requests: Iterator[bytes]) -> None:
        self.connection = connection
        self._requests = requests
        self.send()

    def send(self) -> None:
        self._received = bytearray()
        self._missing: int | None = None
        self._sent = time.perf_counter()
        self.connection.sendall(next(self._requests))

    def receive(self) -> float | None:
        """How long the answer took, once it is whole."""
        piece = self.connection.recv(1 << 18)
        if not piece:
            raise BadAnswer("the server closed the connection")
        self._received += piece
        if self._missing is None and (end := self._received.find(b"\r\n\r\n")) >= 0:
            self._missing = end + 4 + _length(bytes(self._received[:end]))
        whole = self._missing is not None and len(self._received) >= self._missing
        return time.perf_counter() - self._sent if whole else None


def _read(connection: socket.socket) -> bytes:
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        received += _some(connection)
    length = _length(bytes(received[:end]))
    while len(received) < end + 4 + length:
        received += _some(connection)
    return bytes(received[end + 4 :])


def _some(connection: socket.socket) -> bytes:
    piece = connection.recv(1 << 18)
    if not piece:
        raise BadAnswer("the server closed the connection")
    return piece


def _length(head: bytes) -> int:
    """Of the body. Raises: BadAnswer."""
    lines = head.split(b"\r\n")
    if not lines[0].split(b" ")[1].startswith(b"2"):
        raise BadAnswer(lines[0].decode(errors="replace"))
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise BadAnswer("an answer without its length")
