"""Slow request bodies must not delay other requests.

granian's ``wsgi.input`` blocks its thread until the client has sent the bytes. So granian gets API_BODIES
threads in addition to API_THREADS, and a thread needs one of API_THREADS permits for any work other than
waiting for bytes. A body that arrives slower than BODY_MIN_RATE is aborted.

A blocked read ends only when its connection ends, and granian closes a connection whose body is being read
only when the response breaks off. So a response that aborts a body announces one byte more than it has.
"""

import math
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import RawIOBase
from threading import Lock, Semaphore, Thread
from typing import Any

from model_service.api.http.request_id import HEADER, valid_id
from model_service.api.http.transfers import streams
from model_service.api.schemas.common import Error, ErrorBody
from model_service.config import WILDCARDS, Settings
from model_service.errors import BodyTimeout, ModelServiceError, ServiceUnavailable

Headers = list[tuple[str, str]]
Environ = dict[str, Any]
Run = Callable[[Any, Environ], Any]
Refusal = tuple[int, Headers, bytes]

_CLOSE = ("Connection", "close")
_GONE = object()
_WAKE = "POKE"
# The largest read. It must arrive at BODY_MIN_RATE as a whole, so a stalled upload is noticed after that
# time.
_MOST_READ_BYTES = 256 * 1024
# A read that took less than this is followed by one of twice the size, any other read by the smallest.
_FAST_S = 1.0
_LOOK_S = 0.5
# How many bytes of a rejected body are read, and for how long, so that the connection can be reused.
_DRAINED_BYTES = 64 * 1024
_DRAIN_S = 1.0
# When API_BODIES requests are open, a client that has sent nothing for this long is aborted for another one.
_PATIENCE_S = 1.0
_RETRY_AFTER_S = 5
# The time that granian has to send a response before the connection is closed.
_FLUSH_S = 0.1
_CUTTERS = 32


class Bodies:
    """WSGI middleware between granian and the application. ``run`` is granian's call of the application."""

    def __init__(self, run: Run, settings: Settings) -> None:
        self._run = run
        self._most = settings.api_bodies
        self.least_rate = settings.body_min_rate
        self.grace_s = settings.body_grace_s
        # Permits for threads that do anything other than waiting for a client's bytes.
        self.running = Semaphore(settings.api_threads)
        self._without_body = Semaphore(settings.api_threads + streams(settings.api_threads))
        # Reads in progress, the longest first. The thread that removes one may abort it.
        self.waiting: dict[Body, object] = {}
        self._held = 0
        self._lock = Lock()
        self._cutting = Semaphore(_CUTTERS)
        host = "127.0.0.1" if settings.host in WILDCARDS else settings.host
        self._address = (host, settings.port)
        Thread(target=self._watch, name="slow bodies", daemon=True).start()

    def __call__(self, protocol: Any, environ: Environ) -> None:
        if "HTTP_TRANSFER_ENCODING" not in environ and environ.get("CONTENT_LENGTH", "0") == "0":
            if environ["REQUEST_METHOD"] == _WAKE:
                protocol.response_bytes(204, [_CLOSE], b"")
                return
            with self._without_body:
                self._run(protocol, environ)
            return
        with self._lock:
            is_full = self._held >= self._most
            self._held += 1
        try:
            if is_full:
                self._make_room()
            self._answer(protocol, environ)
        except ServiceUnavailable as error:
            headers = [("Retry-After", str(error.retry_after_s)), _CLOSE]
            status, own, content = _refusal(environ, error)
            protocol.response_bytes(status, [*own, *headers], content)
        finally:
            with self._lock:
                self._held -= 1

    def _answer(self, protocol: Any, environ: Environ) -> None:
        body = Body(self, protocol, environ)
        environ["wsgi.input"] = body
        try:
            with self.running:
                self._run(body, environ)
        finally:
            body.drop()

    def too_slow(self) -> BodyTimeout:
        return BodyTimeout(
            f"The body arrived too slowly: less than {self.least_rate:,} bytes a second "
            f"(BODY_MIN_RATE) for {self.grace_s:g} s, or less than the service allows while other "
            "requests wait (API_BODIES)."
        )

    def _make_room(self) -> None:
        """Abort the slowest body. Raises: ServiceUnavailable: no client is slow enough."""
        for body in list(self.waiting)[:1]:
            if body.waits_since < time.monotonic() - _PATIENCE_S and self._cut(body, patient=False):
                return
        message = "The service is receiving as many request bodies as API_BODIES allows; try again."
        raise ServiceUnavailable(message, _RETRY_AFTER_S)

    def _watch(self) -> None:
        while True:
            self._cut_late_ones()
            if self.waiting:
                self._wake()

    def _cut_late_ones(self) -> None:
        """Abort late bodies one after the other, within _LOOK_S.

        Many requests that began together would be aborted together, perhaps be repeated together, and delay
        other requests; so the aborts are spread over half of the grace time.
        """
        bodies, now = list(self.waiting), time.monotonic()
        most = math.ceil(len(bodies) * 2 * _LOOK_S / self.grace_s)
        late = [body for body in bodies if body.deadline < now][:most]
        for body in late:
            self._cut(body, patient=True)
            time.sleep(_LOOK_S / len(late))
        if not late:
            time.sleep(_LOOK_S)

    def _wake(self) -> None:
        """Send a request to this server, so that granian starts a thread.

        granian starts threads when requests arrive, and sometimes one too few. If all threads wait for
        clients, a request would wait until the next one arrives.
        """
        with suppress(OSError), socket.create_connection(self._address, timeout=1) as connection:
            connection.sendall(f"{_WAKE} / HTTP/1.1\r\nHost: {self._address[0]}\r\n\r\n".encode())
            connection.recv(1)

    def _cut(self, body: "Body", *, patient: bool) -> bool:
        """Abort a read; return whether it was aborted. ``patient``: wait for other aborts first."""
        if not self._cutting.acquire(blocking=patient):
            return False
        if self.waiting.pop(body, _GONE) is _GONE:
            self._cutting.release()
            return False

        def cut() -> None:
            try:
                body.break_off()
            finally:
                self._cutting.release()

        try:
            Thread(target=cut, name="cut off", daemon=True).start()
        except RuntimeError:  # the system allows no more threads
            cut()
        return True


class Body(RawIOBase):
    """The ``wsgi.input`` of one request, and the protocol object of its response."""

    def __init__(self, bodies: Bodies, protocol: Any, environ: Environ) -> None:
        self._bodies = bodies
        self._protocol = protocol
        self._environ = environ
        self._stream = environ["wsgi.input"]
        length = environ.get("CONTENT_LENGTH", "")
        self._left = int(length) if length.isdigit() else None
        self._ended = self._left == 0
        self._smallest = max(1, int(bodies.least_rate * bodies.grace_s))
        self._size = self._smallest
        self._refusal: Refusal | None = None
        self._is_cut = False
        self.waits_since = self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the requested number of bytes; fewer if the body ends or its connection breaks.

        Raises:
            BodyTimeout: the bytes arrive too slowly, or other requests need the thread.
        """
        wanted = sys.maxsize if size is None or size < 0 else size
        pieces = []
        while wanted and not self._ended:
            piece = self._piece(min(wanted, self._size))
            pieces.append(piece)
            wanted -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        size = size if self._left is None else min(size, self._left)
        allowed_s = max(self._bodies.grace_s, size / self._bodies.least_rate)
        piece, took_s = self._wait(size, allowed_s)
        self._size = min(2 * self._size, _MOST_READ_BYTES) if took_s < _FAST_S else self._smallest
        if self._left is not None:
            self._left -= len(piece)
        self._ended = self._left == 0 or len(piece) < size
        return piece

    def _wait(self, size: int, allowed_s: float) -> tuple[bytes, float]:
        """Return the bytes and the seconds that they took. Raises: BodyTimeout."""
        bodies = self._bodies
        began = self.waits_since = time.monotonic()
        self.deadline = began + allowed_s
        bodies.running.release()
        try:
            bodies.waiting[self] = None
            piece = bytes(self._stream.read(size))
        finally:
            self._is_cut = bodies.waiting.pop(self, _GONE) is _GONE
            took_s = time.monotonic() - began
            bodies.running.acquire()
        if self._is_cut:
            raise bodies.too_slow()
        return piece, took_s

    def break_off(self) -> None:
        """End the connection, and so the blocked read. The client first receives the whole response."""
        status, headers, content = self._refusal or _refusal(self._environ, self._bodies.too_slow())
        length = ("Content-Length", str(len(content) + 1))
        self._protocol.response_iter(status, [*headers, length, _CLOSE], _broken(content))

    def drop(self) -> None:
        self._stream = None

    # granian's protocol object

    def response_bytes(self, status: int, headers: Headers, content: bytes) -> None:
        if self._is_read(status, headers, content):
            self._protocol.response_bytes(status, headers, content)
        else:
            self._protocol.response_bytes(status, [*headers, _CLOSE], content)

    def response_iter(self, status: int, headers: Headers, content: Any) -> None:
        if self._ended:
            self._protocol.response_iter(status, headers, content)
        elif self._is_cut:
            content.close()
        elif status >= 400:
            try:
                self.response_bytes(status, headers, b"".join(iter(_next(content), None)))
            finally:
                content.close()
        else:
            self._protocol.response_iter(status, [*headers, _CLOSE], content)

    def _is_read(self, status: int, headers: Headers, content: bytes) -> bool:
        """Return whether the whole body is read, after reading what has already arrived."""
        if self._ended or self._left is None or self._left > _DRAINED_BYTES or "HTTP_EXPECT" in self._environ:
            return self._ended
        self._refusal = (status, [each for each in headers if each[0].lower() != "content-length"], content)
        try:
            self._wait(self._left, _DRAIN_S)
        except BodyTimeout:
            return False
        return True


def _refusal(environ: Environ, error: ModelServiceError) -> Refusal:
    request_id = valid_id(environ.get("HTTP_X_REQUEST_ID", ""))
    body = ErrorBody(code=error.code, message=error.message, details=error.details)
    content = Error(error=body, request_id=request_id).model_dump_json().encode()
    return error.status, [("Content-Type", "application/json"), (HEADER, request_id)], content


def _broken(content: bytes) -> Iterator[bytes]:
    yield content
    time.sleep(_FLUSH_S)


def _next(content: Any) -> Callable[[], bytes | None]:
    """Return the next piece of granian's response iterator, which is not a Python iterator."""

    def following() -> bytes | None:
        try:
            return bytes(content.__next__())
        except StopIteration:
            return None

    return following
