"""The files of a dataset version: at paths, all in one zip, and the primary one as the dataset's own file."""

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, services
from model_service.api.downloads import FILE_RESPONSES, send_file
from model_service.api.held_files import ZIP_RESPONSES, file_condition, receive, send_archive
from model_service.api.schemas.datasets import (
    DatasetFilePath,
    DatasetFiles,
    DatasetFileStored,
    DatasetInfo,
    DatasetPath,
    DatasetUploaded,
)
from model_service.api.schemas.files import FileDeleted, FormatQuery, StoredFile, StoreQuery
from model_service.api.schemas.models import FileMetadata
from model_service.api.uploads import FileBody, incoming_file
from model_service.services.file_names import check_path
from model_service.services.files import NewFile
from model_service.services.model_files import file_at

api = APIBlueprint("dataset_files", __name__, url_prefix="/api/v1/datasets", abp_tags=[Tag(name="datasets")])


@api.post("/<dataset_ref:dataset_id>/upload", responses={201: DatasetUploaded})
def upload_dataset(path: DatasetPath, query: FormatQuery, raw: FileBody) -> Response:
    """Upload the dataset's file: the raw body (its name in X-Filename) or the form field 'file', streamed.

    X-Content-SHA256, where sent, is checked before anything is kept.
    """
    files = services().dataset_files
    dataset = files.writable(path.dataset_id)
    incoming = incoming_file(raw, files.max_file_size)
    new = NewFile.of_model(dataset["name"].rpartition("/")[2], incoming.filename, query.format)
    dataset = receive(files, dataset, incoming, new)
    metadata = FileMetadata.model_validate(dataset["file_metadata"])
    return answer(DatasetUploaded(dataset_id=dataset["_id"], file_metadata=metadata), 201)


@api.get("/<dataset_ref:dataset_id>/download", responses=FILE_RESPONSES)
def download_dataset(path: DatasetPath) -> Response:
    """Download the dataset's file. HEAD, Range, If-Range and If-None-Match are honoured."""
    files = services().dataset_files
    return send_file(files.open_primary(files.get_with_file(path.dataset_id)))


@api.get("/<dataset_ref:dataset_id>/info", responses={200: DatasetInfo})
def dataset_info(path: DatasetPath) -> Response:
    """What a download would give."""
    dataset = services().dataset_files.get_with_file(path.dataset_id)
    info = DatasetInfo(
        dataset_id=dataset["_id"],
        name=dataset["name"],
        version=dataset["version"],
        file_metadata=FileMetadata.model_validate(dataset["file_metadata"]),
        download_url=f"/api/v1/datasets/{dataset['_id']}/download",
    )
    return answer(info)


@api.get("/<dataset_ref:dataset_id>/files", responses={200: DatasetFiles})
def list_dataset_files(path: DatasetPath) -> Response:
    """List the files of a dataset version by path."""
    dataset = services().datasets.get(path.dataset_id)
    files = sorted((StoredFile.model_validate(file) for file in dataset["files"]), key=lambda file: file.path)
    body = DatasetFiles(dataset_id=dataset["_id"], files=files, size_bytes=dataset["size_bytes"])
    return answer(body)


@api.get("/<dataset_ref:dataset_id>/files.zip", responses=ZIP_RESPONSES)
def download_dataset_files(path: DatasetPath) -> Response:
    """Download all files of a dataset version as one zip, uncompressed, its length known in advance."""
    dataset = services().datasets.get(path.dataset_id)
    return send_archive(services().dataset_files.archive(dataset))


@api.put(
    "/<dataset_ref:dataset_id>/files/<path:path>",
    responses={200: DatasetFileStored, 201: DatasetFileStored},
)
def store_dataset_file(path: DatasetFilePath, query: StoreQuery, raw: FileBody) -> Response:
    """Store a file at a path: the raw body or the form field 'file', streamed.

    X-Content-SHA256 is checked before anything is kept. If-Match and If-None-Match refer to the file that is
    there. 201 when there was none.
    """
    files = services().dataset_files
    new = NewFile.at(
        path.path, content_type=request.content_type, primary=query.primary, file_format=query.format
    )
    dataset = files.writable(path.dataset_id, new.path)
    incoming = incoming_file(raw, files.max_file_size)
    existed = file_at(dataset, new.path) is not None
    dataset = receive(files, dataset, incoming, new, condition=file_condition)
    stored = StoredFile.model_validate(file_at(dataset, new.path))
    body = DatasetFileStored(dataset_id=dataset["_id"], revision=dataset["revision"], file=stored)
    response = answer(body, 200 if existed else 201)
    response.set_etag(stored.checksum.removeprefix("sha256:"))
    return response


@api.get("/<dataset_ref:dataset_id>/files/<path:path>", responses=FILE_RESPONSES)
def download_dataset_file(path: DatasetFilePath) -> Response:
    """Download the file at a path. HEAD, Range, If-Range and If-None-Match are honoured."""
    dataset = services().datasets.get(path.dataset_id)
    return send_file(services().dataset_files.open(dataset, path.path))


@api.delete("/<dataset_ref:dataset_id>/files/<path:path>", responses={200: FileDeleted})
def delete_dataset_file(path: DatasetFilePath) -> Response:
    """Delete the file at a path; If-Match refers to it."""
    dataset = services().dataset_files.remove(path.dataset_id, path.path, condition=file_condition)
    deleted = FileDeleted(deleted_id=dataset["_id"], path=check_path(path.path), revision=dataset["revision"])
    return answer(deleted)
