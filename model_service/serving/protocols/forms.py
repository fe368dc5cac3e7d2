"""multipart/form-data (RFC 7578) to fields and files. werkzeug, loaded by the first form, reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model_service.errors import InvalidRequest

if TYPE_CHECKING:
    from werkzeug.sansio.multipart import Event, MultipartDecoder

MULTIPART = "multipart/form-data"
_MAX_PARTS = 256
# werkzeug takes the square of a part's headers to read them: it gets small portions, and not many of headers.
_PORTION_BYTES = 4096
_MAX_HEADERS_BYTES = 2 * _PORTION_BYTES


@dataclass(frozen=True)
class Part:
    """``filename`` None: a field."""

    name: str
    filename: str | None
    content: bytes


def read(body: bytes, content_type: str) -> list[Part]:
    """The parts in their order.

    Raises:
        InvalidRequest: it is no whole form, or one of too many parts.
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
        raise InvalidRequest(f"The body is not a whole form: {str(exc)[:200]}.") from None
    return parts


def _events(decoder: MultipartDecoder, body: bytes) -> Iterator[Event]:
    """Raises: ValueError: the end is missing."""
    from werkzeug.sansio.multipart import Epilogue, NeedData

    for start in range(0, len(body), _PORTION_BYTES):
        decoder.receive_data(body[start : start + _PORTION_BYTES])
        while not isinstance(event := decoder.next_event(), NeedData):
            yield event
    decoder.receive_data(None)
    while not isinstance(event := decoder.next_event(), Epilogue):
        yield event
