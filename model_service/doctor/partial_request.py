"""An HTTP request of whose body only a part is sent. Clients for general use send the whole body first."""

import http.client
import json
import select
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_CONNECT_S = 5.0
_MOST_BYTES = 64 * 1024


@dataclass(frozen=True)
class Response:
    """``document``: the JSON object of the body; empty if the body is something else."""

    status: int
    server: str
    document: dict[str, Any]

    def field(self, name: str) -> object:
        return self.document.get(name)

    @property
    def is_ours(self) -> bool:
        """Whether it is an error of the service, and not of a proxy."""
        return isinstance(self.field("error"), dict) and "request_id" in self.document


def send(
    url: str,
    method: str,
    path: str,
    *,
    announced: int = 0,
    body: bytes = b"",
    pause_s: float | None = None,
    timeout_s: float,
) -> Response | None:
    """Send the request and wait for a response.

    Args:
        announced: the Content-Length.
        body: the beginning of the body.
        pause_s: send a byte after each pause of this length, until there is a response. None: only ``body``.

    Returns:
        None if there is no response within ``timeout_s``, or the connection ends without one.

    Raises:
        OSError: no connection, or its certificate is not trusted.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=_CONNECT_S)
    with closing(connection):
        connection.connect()
        connection.putrequest(method, parts.path.rstrip("/") + path)
        if announced:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(announced))
        connection.endheaders()
        deadline = time.monotonic() + timeout_s
        with suppress(ConnectionError):  # the response may come, and the connection end, before all is sent
            if body:
                connection.send(body)
            while pause_s is not None and not _arrived(connection, pause_s) and time.monotonic() < deadline:
                connection.send(b" ")
        return _response(connection, max(0.1, deadline - time.monotonic()))


def _arrived(connection: http.client.HTTPConnection, wait_s: float) -> bool:
    return bool(select.select([connection.sock], [], [], wait_s)[0])


def _response(connection: http.client.HTTPConnection, timeout_s: float) -> Response | None:
    try:
        connection.sock.settimeout(timeout_s)
        response = connection.getresponse()
        content = _content(response)
    except (OSError, http.client.HTTPException):
        return None
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    return Response(
        response.status, response.getheader("Server", ""), document if isinstance(document, dict) else {}
    )


def _content(response: http.client.HTTPResponse) -> bytes:
    """Return the body, also of a response that the service breaks off to end the connection."""
    try:
        return response.read(_MOST_BYTES)
    except http.client.IncompleteRead as exc:
        return exc.partial
