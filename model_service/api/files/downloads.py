"""Send a stored file as a stream, with ``Range``, ``If-Range`` and ``If-None-Match``."""

import time
from collections.abc import Iterator

import structlog
from flask import Response, request
from flask_openapi3.types import ResponseDict

from model_service.api.http.context import context
from model_service.errors import PreconditionFailed, RangeNotSatisfiable
from model_service.services.files.files import StoredFile
from model_service.services.files.names import content_disposition

log = structlog.get_logger(__name__)


_BYTES = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
FILE_RESPONSES: ResponseDict = {
    200: {"description": "The file", **_BYTES},
    206: {"description": "The requested range of the file", **_BYTES},
    304: {"description": "Not modified: the file is the one in If-None-Match"},
}


def send_file(file: StoredFile) -> Response:
    """Send the file as an attachment. For HEAD only the headers are sent, and nothing is read.

    Raises:
        PreconditionFailed: ``If-Match`` has another checksum.
        RangeNotSatisfiable: the range starts after the end of the file.
        ServiceUnavailable: all transfer slots are taken.
    """
    if request.if_match and not request.if_match.contains(file.sha256):
        raise PreconditionFailed(
            "The file has changed: its ETag is not the one in If-Match. Download it again from its start.",
            etag=file.sha256,
        )
    response = Response(mimetype=file.content_type)
    response.set_etag(file.sha256)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["X-File-Checksum"] = f"sha256:{file.sha256}"
    response.headers["Content-Disposition"] = content_disposition(file.filename)
    response.headers["X-Content-Type-Options"] = "nosniff"
    if request.if_none_match.contains_weak(file.sha256):
        response.status_code = 304
        return response
    start, stop = _range(file, response) if request.method == "GET" else (0, file.size_bytes)
    response.content_length = stop - start
    if request.method == "GET":
        response.call_on_close(context().transfers.take())
        response.response = in_time(file.read(start, stop), file.sha256)
    return response


def _range(file: StoredFile, response: Response) -> tuple[int, int]:
    wanted, size = request.range, file.size_bytes
    # A request for several ranges gets the whole file, as RFC 9110 §14.2 allows.
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1 or not _still_wanted(file):
        return 0, size
    start, stop = wanted.ranges[0]
    start, stop = max(0, size + start) if start < 0 else start, min(size, stop or size)
    if start >= size:
        raise RangeNotSatisfiable(
            f"The file has {size} bytes; the requested range starts after its end.", size_bytes=size
        )
    response.status_code = 206
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return start, stop


def _still_wanted(file: StoredFile) -> bool:
    """Evaluate ``If-Range``: only the file's strong ETag matches; weak validators and dates do not."""
    return request.headers.get("If-Range", f'"{file.sha256}"') == f'"{file.sha256}"'


def in_time(read: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Close the connection in the middle of the body if the download takes longer than DOWNLOAD_TIMEOUT.

    The time is checked whenever the client has received a piece; a client that receives nothing keeps its
    slot.
    """
    deadline = time.monotonic() + context().settings.download_timeout

    def pieces() -> Iterator[bytes]:
        for piece in read:
            if time.monotonic() > deadline:
                log.warning("download.timed_out", file=what)
                raise TimeoutError("the download took longer than DOWNLOAD_TIMEOUT")
            yield piece

    return pieces()
