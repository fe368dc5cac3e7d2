"""Server-sent events of the service: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from urllib3 import BaseHTTPResponse

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Event:
    """``name``: ``log`` (``{"line"}``), ``progress`` or ``ended``. A stream resumes after an ``id``."""

    id: str
    name: str
    data: dict[str, Any]


def parse(response: BaseHTTPResponse) -> Iterator[Event | None]:
    """Yield the events as they arrive; None for a comment, which the service sends to keep the stream alive.

    Raises:
        HTTPError: of urllib3, if the connection breaks.
    """
    fields: dict[str, str] = {}
    for line in _lines(response):
        if not line:
            event = _event(fields)
            if event is not None:
                yield event
            fields = {}
        elif line.startswith(":"):
            yield None
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields['data']}\n{value}" if name == "data" and "data" in fields else value


def _lines(response: BaseHTTPResponse) -> Iterator[str]:
    pending = b""
    while piece := response.read1(_PIECE_BYTES):
        *lines, pending = (pending + piece).split(b"\n")
        yield from (line.decode("utf-8", "replace").removesuffix("\r") for line in lines)


def _event(fields: dict[str, str]) -> Event | None:
    """Parse an event. Return None for an unknown one: newer services may send others."""
    try:
        data = json.loads(fields["data"])
    except (KeyError, ValueError):
        return None
    return (
        Event(fields.get("id", ""), fields.get("event", "message"), data) if isinstance(data, dict) else None
    )
