"""The files of a model version: by path, all as one zip, and the primary file."""

import string
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.files.downloads import FILE_RESPONSES, send_file
from model_service.api.files.held import (
    ZIP_RESPONSES,
    delete_at,
    deleted_page,
    files_by_path,
    purge_deleted,
    restore_deleted,
    send_archive,
    status_of,
    store_at,
    upload_primary,
    with_file_tag,
)
from model_service.api.files.uploads import FileBody
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.http.signed import download_url, moment, signed_sha256
from model_service.api.http.urls import link
from model_service.api.schemas.common import Deleted
from model_service.api.schemas.files import (
    ConfirmQuery,
    ConsentQuery,
    DeletedFilePage,
    DeletedFilePath,
    DeletedFilesQuery,
    FileDeleted,
    FileList,
    FilePath,
    FileStored,
    ModelInfo,
    ModelPath,
    PresignRequest,
    PrimaryQuery,
    SignedURL,
    StoredFile,
    StoreQuery,
    Uploaded,
)
from model_service.api.schemas.models import FileMetadata
from model_service.errors import SignatureInvalid
from model_service.metrics import DOWNLOADS, bounded
from model_service.services.files.changes import Outcome, Stored
from model_service.services.files.files import StoredFile as OpenFile
from model_service.services.files.holders import H
from model_service.services.files.names import check_path

api = APIBlueprint("files", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="files")])


@api.post("/<model_ref:model_id>/upload", responses={200: Uploaded, 201: Uploaded})
@policy(Permission.WRITE, rate="upload")
def upload_model(path: ModelPath, query: PrimaryQuery, raw: FileBody) -> Response:
    """Upload the primary file of a version.

    Send the file as the raw body, with its name in `X-Filename` or `filename`, or as the form field `file`.
    The body is streamed and stored once it is complete. `X-Content-SHA256` is compared with the content
    before anything is stored; a raw upload without `Content-Length` needs it. The same bytes again change
    nothing (200, `unchanged`). Other bytes need `replace=true` (409, `would_replace`), and `confirm` if
    something depends on the version (409, `confirmation_required`).
    """
    stored, metadata = upload_primary(services().files, path.model_id, query, raw)
    unchanged = stored.outcome is Outcome.UNCHANGED
    body = Uploaded(model_id=str(stored.document["_id"]), file_metadata=metadata, unchanged=unchanged)
    return answer(body, 200 if unchanged else 201)


@api.get("/<model_ref:model_id>/download", responses=FILE_RESPONSES)
@policy(Permission.READ, rate="download")
def download_model(path: ModelPath) -> Response:
    """Download the primary file of a version.

    `HEAD`, `Range`, `If-Range` and `If-None-Match` are supported. The `ETag` and `X-File-Checksum` are the
    file's sha256. 404 (`no_file`) if nothing was uploaded.
    """
    model = services().files.get_with_file(path.model_id)
    return _send(model, services().files.open_primary(model), counted=True)


@api.get("/<model_ref:model_id>/info", responses={200: ModelInfo})
@policy(Permission.READ)
def model_info(path: ModelPath) -> Response:
    """Read the metadata of the primary file.

    Returns name, size, checksum and URL of what a download would return, without the bytes.
    """
    model = services().files.get_with_file(path.model_id)
    info = ModelInfo(
        model_id=str(model["_id"]),
        name=model["name"],
        version=model["version"],
        algorithm=model["algorithm"],
        file_metadata=FileMetadata.model_validate(model["file_metadata"]),
        download_count=model["download_count"],
        download_url=link(f"/api/v1/models/{model['_id']}/download"),
    )
    return answer(info)


@api.post("/<model_ref:model_id>/download/presign", responses={200: SignedURL})
@policy(Permission.READ)
def presign_download(path: ModelPath, body: PresignRequest) -> Response:
    """Create a signed URL for the primary file.

    The URL allows a download without another credential for `expires_in_s` seconds, at most seven days.
    With `ENABLE_AUTH` it stops working when its creator loses the right to read the file.
    """
    model = services().files.get_with_file(path.model_id)
    metadata = model["file_metadata"]
    assert metadata is not None  # get_with_file has checked it
    return _presigned(model, metadata.get("path", metadata["filename"]), body)


@api.get("/<model_ref:model_id>/files", responses={200: FileList})
@policy(Permission.READ)
def list_files(path: ModelPath) -> Response:
    """List the files of a version.

    Returns all files in the order of their paths, with size, checksum, content type and the result of the
    scan.
    """
    model = services().models.get(path.model_id)
    files = files_by_path(model)
    size_bytes = sum(file.size_bytes for file in files)
    return answer(FileList(model_id=str(model["_id"]), files=files, size_bytes=size_bytes))


@api.get("/<model_ref:model_id>/files.zip", responses=ZIP_RESPONSES)
@policy(Permission.READ, rate="download")
def download_files(path: ModelPath) -> Response:
    """Download all files of a version as a zip.

    The zip is uncompressed and streamed, and its length is known in advance. `Range` is not supported.
    """
    model = services().models.get(path.model_id)
    response = _described(send_archive(services().files.archive(model)), model)
    if request.method == "GET" and response.status_code == 200:
        _count(model, response)
    return response


@api.put("/<model_ref:model_id>/files/<path:path>", responses={200: FileStored, 201: FileStored})
@policy(Permission.WRITE, rate="upload")
def store_file(path: FilePath, query: StoreQuery, raw: FileBody) -> Response:
    """Store a file at a path.

    Send the file as the raw body or as the form field `file`. 201 for a new path, 200 for an existing one.
    `X-Content-SHA256` is compared with the content before anything is stored. `If-Match` and
    `If-None-Match` refer to the file at the path, whose `ETag` is its sha256. Other bytes at an existing
    path need `replace=true` or `If-Match`. `primary=true` makes the file the primary one.
    """
    return _file_answer(*store_at(services().files, path.model_id, path.path, query, raw))


def _file_answer(stored: Stored[H], file: StoredFile) -> Response:
    document = stored.document
    body = FileStored(
        model_id=str(document["_id"]),
        revision=document["revision"],
        file=file,
        unchanged=stored.outcome is Outcome.UNCHANGED,
    )
    return with_file_tag(answer(body, status_of(stored)), file)


@api.get("/<model_ref:model_id>/files/<path:path>", responses=FILE_RESPONSES)
@policy(Permission.READ, rate="download")
def download_file(path: FilePath) -> Response:
    """Download the file at a path.

    `HEAD`, `Range`, `If-Range` and `If-None-Match` are supported. The `ETag` and `X-File-Checksum` are the
    file's sha256.
    """
    model = services().models.get(path.model_id)
    file = services().files.open(model, path.path)
    if (signed := signed_sha256()) is not None and signed != file.sha256:
        raise SignatureInvalid("Another file is stored at this path since the URL was signed.")
    primary = model["file_metadata"]
    return _send(model, file, counted=primary is not None and _is_at(primary, path.path))


@api.delete("/<model_ref:model_id>/files/<path:path>", responses={200: FileDeleted})
@policy(Permission.WRITE)
def delete_file(path: FilePath, query: ConfirmQuery) -> Response:
    """Delete the file at a path.

    Moves the file to the trash of the version. `If-Match` refers to the file's sha256. If something depends
    on the version, `confirm` must name it (409, `confirmation_required`, lists the names).
    """
    return delete_at(services().files, path.model_id, path.path, query)


@api.get("/<model_ref:model_id>/deleted-files", responses={200: DeletedFilePage})
@policy(Permission.READ)
def list_deleted_files(path: ModelPath, query: DeletedFilesQuery) -> Response:
    """List replaced and deleted files of a version.

    A page of the files that can be restored, most recently removed first, with checksum, `replaced_by`,
    `removed_at` and `purged_after`.
    """
    return deleted_page(services().deleted_files, path.model_id, query)


@api.post(
    "/<model_ref:model_id>/deleted-files/<file_id>/restore", responses={200: FileStored, 201: FileStored}
)
@policy(Permission.WRITE)
def restore_deleted_file(path: DeletedFilePath, query: ConsentQuery) -> Response:
    """Restore a replaced or deleted file.

    Restores the file to its path. If another file is at the path now, `replace=true` moves that file to the
    trash. If something depends on the version, `confirm` must name it.
    """
    return _file_answer(*restore_deleted(services().deleted_files, path.model_id, path.file_id, query))


@api.delete("/<model_ref:model_id>/deleted-files/<file_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def purge_deleted_file(path: DeletedFilePath) -> Response:
    """Permanently delete a file from a version's trash.

    The file cannot be restored afterwards.
    """
    return purge_deleted(services().deleted_files, path.model_id, path.file_id)


@api.post("/<model_ref:model_id>/files/<path:path>/presign", responses={200: SignedURL})
@policy(Permission.READ)
def presign_file(path: FilePath, body: PresignRequest) -> Response:
    """Create a signed URL for the file at a path.

    The URL allows a download without another credential for `expires_in_s` seconds, at most seven days. It
    stops working when another file is stored at the path, and with `ENABLE_AUTH` when its creator loses the
    right to read the file.
    """
    return _presigned(services().models.get(path.model_id), path.path, body)


def _presigned(model: Any, path: str, body: PresignRequest) -> Response:
    path = check_path(path)
    sha256 = services().files.open(model, path).sha256
    expires = int(time.time()) + body.expires_in_s
    url = download_url(str(model["_id"]), path, sha256, expires)
    return answer(SignedURL(url=url, expires_at=moment(expires)))


def _send(model: Any, file: OpenFile, *, counted: bool) -> Response:
    response = _described(send_file(file), model)
    if counted and request.method == "GET" and response.status_code == 200:
        _count(model, response)
    return response


def _described(response: Response, model: Any) -> Response:
    # Free text in a header is percent-encoded unless it is plain ASCII.
    response.headers["X-Model-Algorithm"] = quote(model["algorithm"], safe=string.punctuation + " ")
    response.headers["X-Model-Version"] = model["version"]
    return response


def _count(model: Any, response: Response) -> None:
    try:
        services().models.count_download(model)
    except BaseException:
        response.close()
        raise
    DOWNLOADS.labels(algorithm=bounded(model["algorithm"])).inc()


def _is_at(primary: Mapping[str, Any], path: str) -> bool:
    return bool(primary.get("path", primary["filename"]) == check_path(path))
