"""Sending a stored file: ``Range``, ``If-Range``, ``If-None-Match``, and the bytes as they are read."""

import time
from collections.abc import Iterator

import structlog
from flask import Response, request
from werkzeug.http import is_resource_modified

from model_service.api.context import context
from model_service.errors import RangeNotSatisfiable
from model_service.services.files import StoredFile

log = structlog.get_logger(__name__)


def send_file(file: StoredFile, *, mimetype: str = "application/octet-stream") -> Response:
    """The file as an attachment; for HEAD the headers alone, and nothing is read.

    Raises:
        RangeNotSatisfiable: the range begins past the end.
    """
    response = Response(mimetype=mimetype)
    response.set_etag(file.sha256)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["X-File-Checksum"] = f"sha256:{file.sha256}"
    response.headers["Content-Disposition"] = f'attachment; filename="{file.filename}"'
    if not is_resource_modified(request.environ, etag=response.headers["ETag"]):
        response.status_code = 304
        return response
    start, stop = _range(file, response)
    response.content_length = stop - start
    if request.method != "HEAD":
        response.response = _pieces(file, start, stop)
    return response


def _range(file: StoredFile, response: Response) -> tuple[int, int]:
    wanted = request.range
    if_range = request.if_range
    # Several ranges at once are answered whole, as RFC 9110 §14.2 allows.
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return 0, file.size_bytes
    if if_range is not None and if_range.to_header() and if_range.etag != file.sha256:
        return 0, file.size_bytes
    found = wanted.range_for_length(file.size_bytes)
    if found is None:
        raise RangeNotSatisfiable(
            f"The file has {file.size_bytes} bytes; the range begins past them.", size_bytes=file.size_bytes
        )
    start, stop = found
    response.status_code = 206
    response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    return start, stop


def _pieces(file: StoredFile, start: int, stop: int) -> Iterator[bytes]:
    """Ends the connection, rather than the body, when the download takes longer than DOWNLOAD_TIMEOUT."""
    deadline = time.monotonic() + context().settings.download_timeout
    read = file.read(start, stop)

    def pieces() -> Iterator[bytes]:
        for piece in read:
            if time.monotonic() > deadline:
                log.warning("download.timed_out", file=file.sha256)
                raise TimeoutError("the download took longer than DOWNLOAD_TIMEOUT")
            yield piece

    return pieces()
