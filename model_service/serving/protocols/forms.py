"""Read multipart/form-data (RFC 7578) with werkzeug, which is imported by the first form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_service.errors import InvalidRequest

if TYPE_CHECKING:
    from werkzeug.sansio.multipart import Event, MultipartDecoder

MULTIPART = "multipart/form-data"
_MAX_PARTS = 256
# werkzeug's time is quadratic in the size of a part's headers, so it gets small chunks and few headers.
_PORTION_BYTES = 4096
_MAX_HEADERS_BYTES = 2 * _PORTION_BYTES


@dataclass(frozen=True)
class Part:
    """A part of a form. ``filename`` is None for a field."""

    name: str
    filename: str | None
    content: bytes


def read(body: bytes, content_type: str) -> list[Part]:
    """Return the parts in their order.

    Raises:
        InvalidRequest: the form is incomplete or invalid, or has too many parts.
    """
    from werkzeug.exceptions import HTTPException
    from werkzeug.http import parse_options_header
    from werkzeug.sansio.multipart import Data, Field, File, MultipartDecoder

    boundary = parse_options_header(content_type[:1000])[1].get("boundary", "")
    if not 0 < len(boundary) <= 200 or not boundary.isascii():
        raise InvalidRequest("The Content-Type of a form needs its boundary.")
    decoder = MultipartDecoder(boundary.encode(), _MAX_HEADERS_BYTES, max_parts=_MAX_PARTS)
    parts: list[Part] = []
    name: str | None = None
    filename: str | None = None
    pieces: list[bytes] = []
    try:
        for event in _events(decoder, body):
            if isinstance(event, Field | File):
                name, filename, pieces = event.name, getattr(event, "filename", None), []
            elif isinstance(event, Data):
                pieces.append(event.data)
                if not event.more_data:
                    if name is None:
                        raise ValueError("a part has no name")
                    parts.append(Part(name, filename, b"".join(pieces)))
    except HTTPException:
        raise InvalidRequest(f"A form has at most {_MAX_PARTS} parts, with short headers.") from None
    except (ValueError, LookupError) as exc:
        raise InvalidRequest(f"The body is not a complete form: {str(exc)[:200]}.") from None
    return parts


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Event]:
    """Yield the decoder's events. Raises ValueError if the end is missing."""
    from werkzeug.sansio.multipart import Epilogue, NeedData

    for start in range(0, len(body), _PORTION_BYTES):
        decoder.receive_data(body[start : start + _PORTION_BYTES])
        while not isinstance(event := decoder.next_event(), NeedData):
            yield event
    decoder.receive_data(None)
    while not isinstance(event := decoder.next_event(), Epilogue):
        yield event
