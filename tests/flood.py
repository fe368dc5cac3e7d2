"""A flood of connections that send nothing, half a header or a slow body.

``python -m tests.flood PORT ADDRESS...`` is a process of its own, so that it takes nothing from the
interpreter of the client that a test measures. It writes a line when all connections are open, and ends
with its input.
"""

import os
import resource
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from subprocess import PIPE, Popen

IDLE, HALF, SLOW = 2_000, 2_000, 500
_LOWEST_PRIORITY = 15
_BYTE_S = 1.0  # how often a slow body has another byte
_BODY = (
    b"POST /api/v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 5000\r\n\r\n{"
)


@contextmanager
def flooded(port: int, addresses: list[str]) -> Iterator[None]:
    """While the block runs, a process floods ``port`` of this machine from these addresses."""
    with Popen(
        [sys.executable, "-m", "tests.flood", str(port), *addresses], stdin=PIPE, stdout=PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline()
        try:
            yield
            assert child.poll() is None, "the flood ended"
        finally:
            child.stdin.close()


class Flood:
    """Every connection is opened again when it is closed."""

    def __init__(self, port: int, addresses: list[str]) -> None:
        self._port = port
        self._addresses = cycle(addresses)
        self._poll = select.epoll()
        self._open: dict[int, tuple[socket.socket, bytes]] = {}
        self._missing = [b""] * IDLE + [b"GET /health HTTP/1.1\r\nHost: a"] * HALF + [_BODY] * SLOW

    def run(self, opened: Callable[[], None], ended: Callable[[], bool]) -> None:
        """``opened`` is called when all connections are open for the first time."""
        is_complete = False
        last_byte = 0.0
        while not ended():
            wanted, self._missing = self._missing, []
            for sent in wanted:
                self._connect(sent)
            if not self._missing and not is_complete:
                is_complete = True
                opened()
            for descriptor, _ in self._poll.poll(0.05):
                self._read(descriptor)
            if time.monotonic() > last_byte + _BYTE_S:
                last_byte = time.monotonic()
                for connection, sent in self._open.values():
                    if sent is _BODY:
                        with suppress(OSError):
                            connection.send(b" ")

    def _connect(self, sent: bytes) -> None:
        try:
            source = (next(self._addresses), 0)
            connection = socket.create_connection(("127.0.0.1", self._port), 30, source)
            connection.setblocking(False)
            connection.send(sent)
        except OSError:
            self._missing.append(sent)
            return
        self._open[connection.fileno()] = connection, sent
        self._poll.register(connection, select.EPOLLIN)

    def _read(self, descriptor: int) -> None:
        connection, sent = self._open[descriptor]
        with suppress(OSError):
            if connection.recv(4096):
                return
        self._poll.unregister(connection)
        del self._open[descriptor]
        connection.close()
        self._missing.append(sent)


def main() -> None:
    os.nice(_LOWEST_PRIORITY)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    flood = Flood(int(sys.argv[1]), sys.argv[2:])
    flood.run(lambda: print("open", flush=True), lambda: bool(select.select([sys.stdin], [], [], 0)[0]))


if __name__ == "__main__":
    main()
