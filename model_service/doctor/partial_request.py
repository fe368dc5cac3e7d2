"""An HTTP request of whose body only a part is sent. Clients for general use send the whole body first."""

import http.client
import json
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

_CONNECT_S = 5.0
_MOST_BYTES = 64 * 1024


class Ended(ConnectionError):
    """The server, or a proxy, ended the connection without a response."""


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
        None if there is no response within ``timeout_s``.

    Raises:
        Ended: the connection ends without a response.
        OSError: no connection, or its certificate is not trusted.
        ValueError, http.client.InvalidURL: ``url`` has a wrong host, port or path.
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
        deadline = time.monotonic() + timeout_s
        response = None
        with suppress(OSError):  # the response may come, and the connection end, before all is sent
            connection.endheaders()
            if body:
                connection.send(body)
            while pause_s is not None and time.monotonic() < deadline:
                if response := _begun(connection, pause_s):
                    break
                connection.send(b" ")
        try:
            response = response or _begun(connection, max(0.1, deadline - time.monotonic()))
            return _complete(response) if response else None
        except TimeoutError:
            return None
        except (OSError, http.client.HTTPException) as exc:
            raise Ended("the connection ends without a response") from exc


def _begun(connection: http.client.HTTPConnection, timeout_s: float) -> http.client.HTTPResponse | None:
    """Wait for the first byte of the response, or the end of the connection. None: neither came.

    It reads, since a TLS connection is also readable when the server sends session tickets.
    """
    connection.sock.settimeout(timeout_s)
    response = http.client.HTTPResponse(connection.sock)
    try:
        response.fp.peek()  # stays in the buffer of this response
    except TimeoutError:
        response.close()
        return None
    return response


def _complete(response: http.client.HTTPResponse) -> Response:
    with response:
        response.begin()
        content = _content(response)
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
    except OSError:
        return b""
