"""Descriptions of blobs in GridFS: ``filename``, ``contentType`` and ``metadata``.

They are for people and tools that inspect the bucket; the service never reads them. Equal bytes are one blob,
with the description of the first document that stored them.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import cast

from pymongo import UpdateOne

from model_service.storage.common.db import Database
from model_service.storage.common.documents import Fields, FileHolder, StoredId
from model_service.storage.exports.documents import ExportJob

OCTET_STREAM = "application/octet-stream"
_BATCH = 500
_HOLDER = ("name", "algorithm", "version", "created_at", "files.path", "files.file_id", "files.content_type")
# The collections whose documents describe their blobs, and the fields read for that.
_FIELDS = {
    "models": _HOLDER,
    "deleted_models": _HOLDER,
    "datasets": _HOLDER,
    "export_jobs": ("model_name", "model_version", "export_format", "created_at", "package"),
}


def of_file(holder: FileHolder, path: str, content_type: str) -> Fields:
    """Return the description of a file of a model version or dataset, as fields to set."""
    fields: Fields = holder
    return _described(
        path.rpartition("/")[2],
        content_type,
        name=holder["name"],
        algorithm=fields.get("algorithm"),
        version=holder["version"],
        created_at=holder["created_at"],
    )


def of_package(job: ExportJob) -> Fields:
    """Return the description of an export's package, as fields to set."""
    return _described(
        package_name(job),
        "application/zip",
        name=job["model_name"],
        version=job["model_version"],
        created_at=job["created_at"],
        export_format=job["export_format"],
    )


def package_name(job: ExportJob) -> str:
    return f"{job['model_name']}-{job['model_version']}-{job['export_format']}.zip".replace("/", "-")


def _described(
    filename: str, content_type: str, *, name: str, created_at: datetime, **metadata: object
) -> Fields:
    fields = {
        "model_name": name,
        "created_at": created_at,
        "upload_date": created_at,
        "content_type": content_type,
        **{field: value for field, value in metadata.items() if value is not None},
    }
    described = {f"metadata.{field}": value for field, value in fields.items()}
    return {"filename": filename, "contentType": content_type, **described}


def descriptions(collection: str, documents: Iterable[Fields]) -> Iterator[UpdateOne]:
    """Yield the updates that describe the blobs of these documents, unless they have a description."""
    for document in documents:
        if collection == "export_jobs":
            if "package" in document and "model_name" in document:  # imported documents may lack fields
                job = cast(ExportJob, document)
                yield _first(job["package"]["file_id"], of_package(job))
        elif collection in _FIELDS:
            holder = cast(FileHolder, document)
            for file in holder.get("files") or []:
                content_type = file.get("content_type", OCTET_STREAM)
                yield _first(file["file_id"], of_file(holder, file["path"], content_type))


def _first(blob_id: StoredId, described: Fields) -> UpdateOne:
    return UpdateOne({"_id": blob_id, "contentType": {"$exists": False}}, {"$set": described})


def describe_all(database: Database) -> None:
    """Describe each blob without a description by the oldest document that holds it. Can run again."""
    for name in _FIELDS:
        oldest_first = database.collection(name).find(
            {}, _FIELDS[name], sort=[("created_at", 1), ("_id", 1)], allow_disk_use=True
        )
        updates: list[UpdateOne] = []
        for update in descriptions(name, oldest_first):
            updates.append(update)
            if len(updates) == _BATCH:
                database.files.bulk_write(updates, ordered=True)
                updates = []
        if updates:
            database.files.bulk_write(updates, ordered=True)
