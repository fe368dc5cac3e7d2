"""Read the file of a request, from the raw body or a form, as an iterator of bytes with bounded memory."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from flask import Request
from flask_openapi3 import RawModel
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from model_service.api.http.context import services
from model_service.errors import FileTooLarge, IncompleteUpload, InvalidField, InvalidRequest, LengthRequired
from model_service.request_text import require_text

READ_BYTES = 1 << 20
# An upload sends this much before it takes a transfer slot.
_FIRST_READ_BYTES = 64 * 1024
FIELD = "file"
# The free disk space is checked this often while a body arrives, because other uploads fill the disk too.
_LOOK_S = 0.25
# Room for boundaries and part headers of a form, besides its one file.
_FORM_OVERHEAD_BYTES = 64 * 1024
# The most bytes that the parser buffers while it looks for the end of a header or a boundary.
_FORM_BUFFER_BYTES = 4 * READ_BYTES
_FORM_PARTS = 100
_FIELD_BYTES = 16 * 1024


@dataclass(frozen=True)
class IncomingFile:
    """A file and the fields of its form. Fields after the file are available when ``pieces`` is exhausted."""

    pieces: Iterator[bytes]
    filename: str | None
    sha256: str | None
    fields: Mapping[str, str] | None = None


class FileBody(RawModel):
    """The kinds of upload bodies, for the OpenAPI document."""

    mimetypes = ["application/octet-stream", "multipart/form-data"]  # noqa: RUF012 - as the base declares it


def incoming_file(request: Request, limit_bytes: int) -> IncomingFile:
    """Return the file of a request. Nothing of the body is read before ``pieces`` is iterated.

    Raises:
        FileTooLarge: its announced length exceeds the limit.
        LengthRequired: a raw body without a length or checksum, so a broken connection could not be detected.
    """
    sha256 = request.headers.get("X-Content-SHA256")
    is_form = request.mimetype == "multipart/form-data"
    if (request.content_length or 0) > limit_bytes + (_FORM_OVERHEAD_BYTES if is_form else 0):
        raise FileTooLarge(limit_bytes)
    if not is_form:
        if request.content_length is None and sha256 is None:
            raise LengthRequired(
                "The length of the upload is unknown, so a broken connection could not be "
                "detected: send Content-Length, or the file's sha256 in X-Content-SHA256."
            )
        return IncomingFile(_body(request), _sent_name(request), sha256)
    fields: dict[str, str] = {}
    events = _with_fields(_form_events(request), fields)
    filename = _next_file(events).filename
    require_text("filename", filename or "")
    return IncomingFile(_file_data(events), filename, sha256, fields)


def _sent_name(request: Request) -> str | None:
    """Return the name in ``X-Filename``: plain ASCII, or the form of RFC 8187, ``UTF-8''%D0%BC.onnx``.

    Raises:
        InvalidField: not ASCII (the HTTP server drops such bytes), or not of that form.
    """
    value = request.headers.get("X-Filename")
    if value is None:
        return None
    charset, _, rest = value.partition("'")
    encoded = rest.partition("'")[2] if charset.lower() == "utf-8" and "'" in rest else None
    try:
        name = value if encoded is None else unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        name = ""
    if not name:
        raise InvalidField.of(
            "X-Filename",
            "ASCII only; percent-encode other names, as in UTF-8''%D0%BC.onnx, or send them as ?filename=",
            wrong="The file name in X-Filename is not readable",
        )
    require_text("X-Filename", name)
    return name


def _body(request: Request) -> Iterator[bytes]:
    """Raises: DiskFull. IncompleteUpload: the connection broke before the announced length."""
    expected, received = request.content_length, 0
    stream = request.environ["wsgi.input"]
    while expected is None or received < expected:
        try:
            piece = stream.read(READ_BYTES if received else _FIRST_READ_BYTES)
        except OSError as exc:
            raise IncompleteUpload(
                "The connection broke before the whole body arrived. Nothing was stored; send it again."
            ) from exc
        if not piece:
            break
        received += len(piece)
        services().disk.require_room(known_for_s=_LOOK_S)
        yield piece
    if expected is not None and received != expected:
        raise IncompleteUpload(
            f"Only {received:,} of {expected:,} announced bytes arrived. Nothing was stored; send it again.",
            expected_bytes=expected,
            received_bytes=received,
        )


def _form_events(request: Request) -> Iterator[Field | File | Data]:
    boundary = request.mimetype_params.get("boundary", "")
    if not boundary:
        raise InvalidRequest("The Content-Type of the multipart form has no boundary.")
    decoder = MultipartDecoder(
        boundary.encode("latin-1", "replace"), max_form_memory_size=_FORM_BUFFER_BYTES, max_parts=_FORM_PARTS
    )
    try:
        for piece in _body(request):
            decoder.receive_data(piece)
            while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
                if isinstance(event, Field | File | Data):
                    yield event
        decoder.receive_data(None)
        decoder.next_event()
    except RequestEntityTooLarge:
        raise InvalidRequest("The multipart form has too many parts, or a part without an end.") from None
    except UnicodeDecodeError:
        raise InvalidRequest(
            "A header of the form is not UTF-8: encode the file's name in UTF-8, or send it as "
            "filename*=UTF-8''…."
        ) from None
    except ValueError:
        raise IncompleteUpload(
            "The multipart form is malformed or ended before its closing boundary. Nothing was stored."
        ) from None


def _with_fields(
    events: Iterator[Field | File | Data], fields: dict[str, str]
) -> Iterator[Field | File | Data]:
    """Yield the parser's events, and store short text fields in ``fields``."""
    name: str | None = None
    value = b""
    for event in events:
        match event:
            case Field():
                name, value = event.name, b""
            case File():
                name = None
            case Data() if name is not None and len(value) + len(event.data) <= _FIELD_BYTES:
                value += event.data
                fields[name] = _text_of(name, value)
        yield event


def _text_of(name: str, value: bytes) -> str:
    """Raises: InvalidField: a form's field is not UTF-8, or has a NUL character."""
    text = value.decode("utf-8", "surrogateescape")
    require_text(name, text)
    return text


def _next_file(events: Iterator[Field | File | Data]) -> File:
    for event in events:
        if isinstance(event, File) and event.name == FIELD:
            return event
    raise InvalidRequest(f"The form has no file in its field '{FIELD}'.")


def _file_data(events: Iterator[Field | File | Data]) -> Iterator[bytes]:
    """Return the data of the file that just began; the data of other fields is skipped."""
    in_file = True
    for event in events:
        match event:
            case File():
                raise InvalidRequest(
                    f"The form has more than one file; send a single file, in the field '{FIELD}'."
                )
            case Field():
                in_file = False
            case Data() if in_file:
                yield bytes(event.data)
