"""Messages between the front and a model host: JSON objects, one per packet of a Unix socket.

Front to host, on the control socket:
    {"do": "connect", "id": n}, with a socket and a memory    a connection, handled by a thread of the host
    {"do": "stop", "id": n, "run": number}                    stop this connection's run, if its runtime can
    {"do": "forget", "model": n}
Host to front, on the control socket, once: {"confined": {...}}
Front to host, on a connection, and the host's answer to each:
    {"do": "load", "model": n, "folder", "threads", "lanes", "gpu"}    {"inputs", "outputs", "seconds", …}
    {"do": "run", "model": n, "run": number, "arrays": [...], "end"}   {"arrays": [...], "seconds"}
    any of them                                                        {"error": kind, "message"}
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import orjson

_MOST_BYTES = 256 << 10
_MOST_MESSAGE = 2000  # the limit of an error's text, in characters


class Closed(Exception):
    """The other side closed the socket, or sent an invalid message."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets for large packets, such as descriptions of hundreds of arrays."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST_BYTES)
    return ends


def send(end: socket.socket, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
    """Send a message. Raises Closed if the other side is gone."""
    content = orjson.dumps(message)
    try:
        if descriptors:
            socket.send_fds(end, [content], list(descriptors))
        else:
            end.send(content)
    except OSError as exc:
        raise Closed(f"the message cannot be sent: {exc.strerror}") from None


def receive(end: socket.socket) -> dict[str, Any]:
    """Return the next message.

    Raises:
        Closed: the socket is closed, or the message is no JSON object.
        BlockingIOError, TimeoutError: there is no message yet.
    """
    try:
        content = end.recv(_MOST_BYTES)
    except (BlockingIOError, TimeoutError):
        raise
    except OSError as exc:
        raise Closed(f"the connection broke: {exc.strerror}") from None
    return parsed(content)


def parsed(content: bytes) -> dict[str, Any]:
    """Parse a message. Raises Closed."""
    if not content:
        raise Closed("the connection was closed")
    try:
        message = orjson.loads(content)
    except ValueError:
        raise Closed("the message is not JSON") from None
    if not isinstance(message, dict):
        raise Closed("the message is not a JSON object")
    return message


def failure(kind: str, exc: BaseException) -> dict[str, Any]:
    text = str(exc).encode(errors="replace").decode()
    return {"error": kind, "message": text[:_MOST_MESSAGE] or type(exc).__name__}
