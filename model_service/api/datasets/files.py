"""The files of a dataset version: by path, all as one zip, and the primary file."""

from flask import Response
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
from model_service.api.http.urls import link
from model_service.api.schemas.common import Deleted
from model_service.api.schemas.datasets import (
    DatasetFilePath,
    DatasetFiles,
    DatasetFileStored,
    DatasetInfo,
    DatasetPath,
    DatasetUploaded,
    DeletedDatasetFilePath,
)
from model_service.api.schemas.files import (
    ConfirmQuery,
    ConsentQuery,
    DeletedFilePage,
    DeletedFilesQuery,
    FileDeleted,
    PrimaryQuery,
    StoredFile,
    StoreQuery,
)
from model_service.api.schemas.models import FileMetadata
from model_service.services.files.changes import Outcome, Stored
from model_service.services.files.holders import H

api = APIBlueprint("dataset_files", __name__, url_prefix="/api/v1/datasets", abp_tags=[Tag(name="datasets")])


@api.post("/<dataset_ref:dataset_id>/upload", responses={200: DatasetUploaded, 201: DatasetUploaded})
@policy(Permission.WRITE, rate="upload")
def upload_dataset(path: DatasetPath, query: PrimaryQuery, raw: FileBody) -> Response:
    """Upload the primary file of a dataset.

    Send the file as the raw body, with its name in `X-Filename` or `filename`, or as the form field `file`.
    `X-Content-SHA256` is compared with the content before anything is stored. Other bytes than the stored
    ones need `replace=true`, and `confirm` if a training job or a model depends on the dataset.
    """
    stored, metadata = upload_primary(services().dataset_files, path.dataset_id, query, raw)
    unchanged = stored.outcome is Outcome.UNCHANGED
    body = DatasetUploaded(
        dataset_id=str(stored.document["_id"]), file_metadata=metadata, unchanged=unchanged
    )
    return answer(body, 200 if unchanged else 201)


@api.get("/<dataset_ref:dataset_id>/download", responses=FILE_RESPONSES)
@policy(Permission.READ, rate="download")
def download_dataset(path: DatasetPath) -> Response:
    """Download the primary file of a dataset.

    `HEAD`, `Range`, `If-Range` and `If-None-Match` are supported. The `ETag` and `X-File-Checksum` are the
    file's sha256.
    """
    files = services().dataset_files
    return send_file(files.open_primary(files.get_with_file(path.dataset_id)))


@api.get("/<dataset_ref:dataset_id>/info", responses={200: DatasetInfo})
@policy(Permission.READ)
def dataset_info(path: DatasetPath) -> Response:
    """Read the metadata of a dataset's primary file.

    Returns name, size, checksum and URL of what a download would return, without the bytes.
    """
    dataset = services().dataset_files.get_with_file(path.dataset_id)
    info = DatasetInfo(
        dataset_id=str(dataset["_id"]),
        name=dataset["name"],
        version=dataset["version"],
        file_metadata=FileMetadata.model_validate(dataset["file_metadata"]),
        download_url=link(f"/api/v1/datasets/{dataset['_id']}/download"),
    )
    return answer(info)


@api.get("/<dataset_ref:dataset_id>/files", responses={200: DatasetFiles})
@policy(Permission.READ)
def list_dataset_files(path: DatasetPath) -> Response:
    """List the files of a dataset.

    Returns all files in the order of their paths, with size, checksum and content type.
    """
    dataset = services().datasets.get(path.dataset_id)
    files = files_by_path(dataset)
    return answer(DatasetFiles(dataset_id=str(dataset["_id"]), files=files, size_bytes=dataset["size_bytes"]))


@api.get("/<dataset_ref:dataset_id>/files.zip", responses=ZIP_RESPONSES)
@policy(Permission.READ, rate="download")
def download_dataset_files(path: DatasetPath) -> Response:
    """Download all files of a dataset as a zip.

    The zip is uncompressed and streamed, and its length is known in advance. `Range` is not supported.
    """
    dataset = services().datasets.get(path.dataset_id)
    return send_archive(services().dataset_files.archive(dataset))


@api.put(
    "/<dataset_ref:dataset_id>/files/<path:path>",
    responses={200: DatasetFileStored, 201: DatasetFileStored},
)
@policy(Permission.WRITE, rate="upload")
def store_dataset_file(path: DatasetFilePath, query: StoreQuery, raw: FileBody) -> Response:
    """Store a dataset file at a path.

    Send the file as the raw body or as the form field `file`. 201 for a new path, 200 for an existing one.
    `X-Content-SHA256` is compared with the content before anything is stored. `If-Match` and
    `If-None-Match` refer to the file at the path, whose `ETag` is its sha256. Other bytes at an existing
    path need `replace=true` or `If-Match`.
    """
    return _file_answer(*store_at(services().dataset_files, path.dataset_id, path.path, query, raw))


def _file_answer(stored: Stored[H], file: StoredFile) -> Response:
    document = stored.document
    body = DatasetFileStored(
        dataset_id=str(document["_id"]),
        revision=document["revision"],
        file=file,
        unchanged=stored.outcome is Outcome.UNCHANGED,
    )
    return with_file_tag(answer(body, status_of(stored)), file)


@api.get("/<dataset_ref:dataset_id>/files/<path:path>", responses=FILE_RESPONSES)
@policy(Permission.READ, rate="download")
def download_dataset_file(path: DatasetFilePath) -> Response:
    """Download the dataset file at a path.

    `HEAD`, `Range`, `If-Range` and `If-None-Match` are supported. The `ETag` and `X-File-Checksum` are the
    file's sha256.
    """
    dataset = services().datasets.get(path.dataset_id)
    return send_file(services().dataset_files.open(dataset, path.path))


@api.delete("/<dataset_ref:dataset_id>/files/<path:path>", responses={200: FileDeleted})
@policy(Permission.WRITE)
def delete_dataset_file(path: DatasetFilePath, query: ConfirmQuery) -> Response:
    """Delete the dataset file at a path.

    Moves the file to the trash of the dataset. `If-Match` refers to the file's sha256. If a training job or
    a model depends on the dataset, `confirm` must name it.
    """
    return delete_at(services().dataset_files, path.dataset_id, path.path, query)


@api.get("/<dataset_ref:dataset_id>/deleted-files", responses={200: DeletedFilePage})
@policy(Permission.READ)
def list_deleted_dataset_files(path: DatasetPath, query: DeletedFilesQuery) -> Response:
    """List replaced and deleted files of a dataset.

    A page of the files that can be restored, most recently removed first, with checksum, `replaced_by`,
    `removed_at` and `purged_after`.
    """
    return deleted_page(services().deleted_dataset_files, path.dataset_id, query)


@api.post(
    "/<dataset_ref:dataset_id>/deleted-files/<file_id>/restore",
    responses={200: DatasetFileStored, 201: DatasetFileStored},
)
@policy(Permission.WRITE)
def restore_deleted_dataset_file(path: DeletedDatasetFilePath, query: ConsentQuery) -> Response:
    """Restore a replaced or deleted dataset file.

    Restores the file to its path. If another file is at the path now, `replace=true` moves that file to the
    trash.
    """
    return _file_answer(
        *restore_deleted(services().deleted_dataset_files, path.dataset_id, path.file_id, query)
    )


@api.delete("/<dataset_ref:dataset_id>/deleted-files/<file_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def purge_deleted_dataset_file(path: DeletedDatasetFilePath) -> Response:
    """Permanently delete a file from a dataset's trash.

    The file cannot be restored afterwards.
    """
    return purge_deleted(services().deleted_dataset_files, path.dataset_id, path.file_id)
