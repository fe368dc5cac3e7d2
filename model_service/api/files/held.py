"""Shared by the routes of a model's files and of a dataset's files: receive one file, send all files."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Response, request
from flask_openapi3.types import ResponseDict
from pydantic import ValidationError

from model_service.api.files.downloads import in_time
from model_service.api.files.uploads import FileBody, IncomingFile, incoming_file
from model_service.api.http.context import answer, context, page_limit
from model_service.api.schemas.common import Deleted, JSONObject, Pagination
from model_service.api.schemas.files import (
    Completion,
    ConfirmQuery,
    ConsentQuery,
    DeletedFile,
    DeletedFilePage,
    DeletedFilesQuery,
    FileDeleted,
    NewUpload,
    PrimaryQuery,
    StoredFile,
    StoreQuery,
)
from model_service.api.schemas.models import FileMetadata
from model_service.errors import InvalidField
from model_service.services.files.changes import Outcome, Stored
from model_service.services.files.deleted import DeletedFiles
from model_service.services.files.edits import file_at
from model_service.services.files.files import NewFile
from model_service.services.files.held import Condition, HeldFiles, unconditional
from model_service.services.files.holders import H
from model_service.services.files.names import check_path, content_disposition
from model_service.services.files.zip_archive import FileArchive
from model_service.services.models.replacement import Consent

ZIP_RESPONSES: ResponseDict = {
    200: {
        "description": "All files",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def _receive(
    files: HeldFiles[H],
    document: H,
    incoming: IncomingFile,
    new: NewFile,
    query: ConsentQuery,
    *,
    condition: Condition = unconditional,
) -> Stored[H]:
    """Store the request's file while holding a transfer slot. Return the document with the file."""
    with context().transfers.carrying(incoming.pieces) as pieces:
        return files.store(
            document,
            pieces,
            new,
            sha256=incoming.sha256,
            condition=condition,
            consent=lambda: _consent(query, incoming),
            ask_first=incoming.fields is None,
        )


def _consent(query: ConsentQuery, incoming: IncomingFile) -> Consent:
    """Return the consent in the URL, the form's fields and an If-Match with the present file's checksum.

    Raises:
        InvalidField: a field of the form has a wrong value.
    """
    agreed = Consent(query.replace or _names_the_present_file(), frozenset(query.confirm or ()))
    fields = incoming.fields or {}
    sent: JSONObject = {"replace": fields.get("replace", "false"), "confirm": [fields.get("confirm", "")]}
    try:
        form = ConsentQuery.model_validate(sent)
    except ValidationError:
        raise InvalidField.of("replace", "true or false") from None
    return agreed | consent_of(form)


def consent_of(sent: ConsentQuery | NewUpload | Completion) -> Consent:
    return Consent(sent.replace, frozenset(sent.confirm or ()))


def _names_the_present_file() -> bool:
    """Return whether If-Match has the checksum of the present file: then the request may replace it."""
    return request.method == "PUT" and bool(request.if_match) and not request.if_match.star_tag


def upload_primary(
    files: HeldFiles[H], reference: str, query: PrimaryQuery, raw: FileBody
) -> tuple[Stored[H], FileMetadata]:
    """Store the request's file as the primary file. Return the outcome and the file."""
    holder = files.writable(reference)
    incoming = incoming_file(raw, files.max_file_size)
    new = NewFile.of_holder(holder["name"], query.filename or incoming.filename, query.format)
    stored = _receive(files, holder, incoming, new, query)
    return stored, FileMetadata.model_validate(stored.document["file_metadata"])


def store_at(
    files: HeldFiles[H], reference: str, path: str, query: StoreQuery, raw: FileBody
) -> tuple[Stored[H], StoredFile]:
    """Store the request's file at a path, under its conditions. Return the outcome and the file."""
    new = NewFile.at(path, content_type=request.content_type, primary=query.primary, file_format=query.format)
    holder = files.writable(reference, new.path)
    incoming = incoming_file(raw, files.max_file_size)
    stored = _receive(files, holder, incoming, new, query, condition=file_condition)
    return stored, StoredFile.model_validate(file_at(stored.document, new.path))


def status_of(stored: Stored[H]) -> int:
    """Return the HTTP status of a response to a stored file."""
    return 201 if stored.outcome is Outcome.CREATED else 200


def delete_at(files: HeldFiles[H], reference: str, path: str, query: ConfirmQuery) -> Response:
    """Remove the file at a path, under the request's conditions."""
    consent = Consent(confirmed=frozenset(query.confirm or ()))
    holder = files.remove(reference, path, condition=file_condition, consent=consent)
    body = FileDeleted(deleted_id=str(holder["_id"]), path=check_path(path), revision=holder["revision"])
    return answer(body)


def deleted_page(files: DeletedFiles[H], reference: str, query: DeletedFilesQuery) -> Response:
    page = files.page(reference, query.page, page_limit(query))
    kept = timedelta(days=context().settings.deleted_keep_days)
    shown = [
        DeletedFile(
            id=str(entry["_id"]),
            purged_after=entry["removed_at"] + kept,
            path=entry["file"]["path"],
            size_bytes=entry["file"]["size_bytes"],
            checksum=entry["file"]["checksum"],
            replaced_by=entry["replaced_by"],
            was_primary=entry["was_primary"],
            removed_at=entry["removed_at"],
            removed_by=entry["removed_by"],
        )
        for entry in page.items
    ]
    return answer(DeletedFilePage(files=shown, pagination=Pagination.of(page)))


def restore_deleted(
    files: DeletedFiles[H], reference: str, file_id: str, query: ConsentQuery
) -> tuple[Stored[H], StoredFile]:
    """Restore a file from the trash. Return the outcome and the file."""
    stored, path = files.restore(reference, file_id, consent=consent_of(query))
    return stored, StoredFile.model_validate(file_at(stored.document, path))


def purge_deleted(files: DeletedFiles[H], reference: str, file_id: str) -> Response:
    files.purge(reference, file_id)
    return answer(Deleted(message="File permanently deleted", deleted_id=file_id))


def files_by_path(holder: Mapping[str, Any]) -> list[StoredFile]:
    return sorted((StoredFile.model_validate(file) for file in holder["files"]), key=lambda file: file.path)


def with_file_tag(response: Response, file: StoredFile) -> Response:
    """Set the ETag of the response to the file's sha256."""
    response.set_etag(file.checksum.removeprefix("sha256:"))
    return response


def send_archive(archive: FileArchive) -> Response:
    """Send all files as one zip; for HEAD only the headers."""
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
    """Return the If-Match and If-None-Match of a request that changes the file at a path."""
    wanted, unwanted = request.if_match, request.if_none_match
    if wanted and (sha256 is None or not wanted.contains(sha256)):
        return False
    return not (unwanted and sha256 is not None and unwanted.contains_weak(sha256))
