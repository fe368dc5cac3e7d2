"""What the routes of a model's files and of a dataset's share: receiving one, and sending all of them."""

from flask import Response, request
from flask_openapi3.types import ResponseDict

from model_service.api.context import answer, context
from model_service.api.downloads import in_time
from model_service.api.schemas.common import JSONObject
from model_service.api.schemas.files import FileDeleted, PrimaryQuery, StoredFile, StoreQuery
from model_service.api.schemas.models import FileMetadata
from model_service.api.uploads import FileBody, IncomingFile, incoming_file
from model_service.services.file_archive import FileArchive
from model_service.services.file_names import check_path, content_disposition
from model_service.services.files import NewFile
from model_service.services.held_files import Condition, HeldFiles, file_at, unconditional

ZIP_RESPONSES: ResponseDict = {
    200: {
        "description": "All files",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def _receive(
    files: HeldFiles,
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


def upload_primary(
    files: HeldFiles, reference: str, query: PrimaryQuery, raw: FileBody
) -> tuple[JSONObject, FileMetadata]:
    """Store the request's file as the holder's own. Returns the document then, and what the file is."""
    holder = files.writable(reference)
    incoming = incoming_file(raw, files.max_file_size)
    new = NewFile.of_holder(holder["name"], query.filename or incoming.filename, query.format)
    holder = _receive(files, holder, incoming, new)
    return holder, FileMetadata.model_validate(holder["file_metadata"])


def store_at(
    files: HeldFiles, reference: str, path: str, query: StoreQuery, raw: FileBody
) -> tuple[JSONObject, StoredFile, int]:
    """Store the request's file at a path, under its conditions. Returns also 201, or 200 where one was."""
    new = NewFile.at(path, content_type=request.content_type, primary=query.primary, file_format=query.format)
    holder = files.writable(reference, new.path)
    incoming = incoming_file(raw, files.max_file_size)
    status = 201 if file_at(holder, new.path) is None else 200
    holder = _receive(files, holder, incoming, new, condition=file_condition)
    return holder, StoredFile.model_validate(file_at(holder, new.path)), status


def delete_at(files: HeldFiles, reference: str, path: str) -> Response:
    """Remove the file at a path, under the request's conditions."""
    holder = files.remove(reference, path, condition=file_condition)
    return answer(FileDeleted(deleted_id=holder["_id"], path=check_path(path), revision=holder["revision"]))


def files_by_path(holder: JSONObject) -> list[StoredFile]:
    return sorted((StoredFile.model_validate(file) for file in holder["files"]), key=lambda file: file.path)


def with_file_tag(response: Response, file: StoredFile) -> Response:
    """A file's ETag is its sha256."""
    response.set_etag(file.checksum.removeprefix("sha256:"))
    return response


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
