"""What the routes of a model's files and of a dataset's share: receiving one, and sending all of them."""

from flask import Response, request
from flask_openapi3.types import ResponseDict

from model_service.api.context import context
from model_service.api.downloads import in_time
from model_service.api.schemas.common import JSONObject
from model_service.api.uploads import IncomingFile
from model_service.services.file_archive import FileArchive
from model_service.services.file_names import content_disposition
from model_service.services.files import NewFile
from model_service.services.model_files import Condition, ModelFiles, unconditional

ZIP_RESPONSES: ResponseDict = {
    200: {
        "description": "All files",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def receive(
    files: ModelFiles,
    document: JSONObject,
    incoming: IncomingFile,
    new: NewFile,
    *,
    condition: Condition = unconditional,
) -> JSONObject:
    """Store what is coming in while holding a transfer slot. Returns the document with it."""
    give_back = context().transfers.take()
    try:
        return files.store(document, incoming.pieces, new, sha256=incoming.sha256, condition=condition)
    finally:
        give_back()


def send_archive(archive: FileArchive) -> Response:
    """All files as one zip; for HEAD the headers alone."""
    response = Response(mimetype="application/zip")
    response.set_etag(archive.etag, weak=True)
    response.headers["Content-Disposition"] = content_disposition(archive.filename)
    if request.if_none_match.contains_weak(archive.etag):
        response.status_code = 304
        return response
    response.content_length = archive.size_bytes
    if request.method == "GET":
        response.call_on_close(context().transfers.take())
        response.response = in_time(archive.pieces(), archive.filename)
    return response


def file_condition(sha256: str | None) -> bool:
    """If-Match and If-None-Match of a request that changes the file at a path."""
    wanted, unwanted = request.if_match, request.if_none_match
    if wanted and (sha256 is None or not wanted.contains(sha256)):
        return False
    return not (unwanted and sha256 is not None and unwanted.contains_weak(sha256))
