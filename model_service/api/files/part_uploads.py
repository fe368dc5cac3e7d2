"""Uploads in parts: /api/v1/models/{id}/uploads creates one, /api/v1/uploads/{id} refers to it."""

from collections.abc import Mapping
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.files.held import consent_of
from model_service.api.files.uploads import FileBody, incoming_file
from model_service.api.http.context import answer, context, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.signed import part_url
from model_service.api.http.urls import link
from model_service.api.schemas.common import Deleted
from model_service.api.schemas.files import (
    Completion,
    MissingPart,
    ModelPath,
    NewUpload,
    Part,
    PartPath,
    StoredFile,
    Upload,
    UploadPath,
    UploadQuery,
)
from model_service.errors import InvalidField
from model_service.services.files.files import NewFile
from model_service.services.files.part_uploads import MAX_PART_BYTES, PartUpload
from model_service.states import UploadState

api = APIBlueprint("part_uploads", __name__, url_prefix="/api/v1", abp_tags=[Tag(name="files")])


@api.post("/models/<model_ref:model_id>/uploads", responses={201: Upload})
@policy(Permission.WRITE)
def create_upload(path: ModelPath, body: NewUpload) -> Response:
    """Start an upload in parts.

    For large files: parts can be sent in any order, several at a time, and again. Needs `size_bytes` and
    `path`, or `filename` for the primary file. With `sha256`, a file that would be refused at the end is
    refused now. `with_urls` adds a signed URL for each missing part. `Idempotency-Key` is supported.
    """
    if body.path is not None:
        new = NewFile.at(
            body.path, content_type=body.content_type, primary=body.primary, file_format=body.format
        )
        model = services().files.writable(path.model_id, new.path)
    else:
        model = services().files.writable(path.model_id)
        new = NewFile.of_holder(model["name"], body.filename, body.format)
    once = requested_once()
    upload = services().part_uploads.create(
        model,
        new,
        size_bytes=body.size_bytes,
        sha256=body.sha256,
        part_size_bytes=body.part_size_bytes,
        consent=consent_of(body),
        once=once,
    )
    response = answer(_view(upload, with_urls=body.with_urls), 201)
    response.headers["Location"] = link(f"/api/v1/uploads/{upload.id}")
    return mark(response, once)


@api.get("/uploads/<upload_id>", responses={200: Upload})
@policy(Permission.WRITE, rate="parts")
def get_upload(path: UploadPath, query: UploadQuery) -> Response:
    """Read the progress of an upload in parts.

    Returns the state, the parts that have arrived, with their checksums, and the missing parts.
    `with_urls=true` adds a signed URL for each missing part.
    """
    return answer(_view(services().part_uploads.get(path.upload_id), with_urls=query.with_urls))


@api.put("/uploads/<upload_id>/parts/<n>", responses={200: Part})
@policy(Permission.WRITE, rate="parts")
def put_part(path: PartPath, raw: FileBody) -> Response:
    """Send one part of an upload.

    The raw body is the part; `X-Content-SHA256`, its own sha256, is required. Parts count from 0 and have
    `part_size_bytes`, except the last one. A part that is sent again replaces the one before. With a signed
    URL no other credential is needed.
    """
    incoming = incoming_file(raw, MAX_PART_BYTES)
    if incoming.sha256 is None:
        raise InvalidField.of("X-Content-SHA256", "the part's sha256 is required")
    is_raw = request.mimetype != "multipart/form-data"
    with context().transfers.carrying(incoming.pieces) as pieces:
        part = services().part_uploads.put_part(
            path.upload_id,
            path.n,
            pieces,
            sha256=incoming.sha256,
            length=request.content_length if is_raw else None,
        )
    response = answer(_part(path.n, part))
    response.set_etag(part["sha256"])
    return response


@api.post("/uploads/<upload_id>/complete", responses={200: Upload, 202: Upload})
@policy(Permission.WRITE, rate="parts")
def complete_upload(path: UploadPath, body: Completion) -> Response:
    """Complete an upload in parts.

    Reads the stored parts, compares them with what was announced, and publishes the file. 409 lists missing
    or damaged parts. 202 while another request completes the same upload: repeat it later. May be repeated
    after success.
    """
    upload = services().part_uploads.complete(path.upload_id, sha256=body.sha256, consent=consent_of(body))
    return answer(_view(upload, with_urls=False), 200 if upload.state is UploadState.COMPLETED else 202)


@api.delete("/uploads/<upload_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def abort_upload(path: UploadPath) -> Response:
    """Abort an upload in parts.

    Ends the upload and removes the parts that were sent.
    """
    services().part_uploads.abort(path.upload_id)
    return answer(Deleted(message="Upload aborted", deleted_id=path.upload_id))


def _view(upload: PartUpload, *, with_urls: bool) -> Upload:
    upload_id, expires = str(upload.id), int(upload.expires_at.timestamp())
    document = upload.document

    def url(n: int) -> str | None:
        return part_url(upload_id, n, expires) if with_urls else None

    return Upload(
        upload_id=upload_id,
        model_id=str(document["model_id"]),
        path=document["new"]["path"],
        state=upload.state,
        size_bytes=document["size_bytes"],
        part_size_bytes=document["part_size_bytes"],
        parts=upload.parts,
        expires_at=upload.expires_at,
        received=[_part(n, part) for n, part in sorted(upload.received().items())],
        missing=[MissingPart(n=n, size_bytes=upload.part_size(n), url=url(n)) for n in upload.missing()],
        file=StoredFile.model_validate(document["file"]) if "file" in document else None,
    )


def _part(n: int, part: Mapping[str, Any]) -> Part:
    return Part(n=n, size_bytes=part["size_bytes"], checksum=f"sha256:{part['sha256']}")
