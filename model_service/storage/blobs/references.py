"""The documents that hold blobs: the single list that the archive and the verification use.

A blob's ``metadata.references`` counts exactly these. A sub-document for a stored blob has ``file_id`` and
``checksum``. A model's ``file_metadata`` repeats one of its ``files`` and is not counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from bson import ObjectId
from typing_extensions import TypedDict

from model_service.states import JobStatus
from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session, deadline
from model_service.storage.common.documents import BlobReference, Fields, StoredId

_FILES = {"$ifNull": ["$files.file_id", []]}
_PACKAGE = {"$cond": [{"$ifNull": ["$package.file_id", False]}, ["$package.file_id"], []]}
_STATE = {"$cond": [{"$ifNull": ["$training_state.file_id", False]}, ["$training_state.file_id"], []]}
# Every revision of a deployment holds the packages of its members and shadow; ``routing`` repeats the newest.
_REVISIONS = {
    "$reduce": {
        "input": {"$ifNull": ["$revisions.routing", []]},
        "initialValue": [],
        "in": {
            "$concatArrays": [
                "$$value",
                "$$this.members.package.file_id",
                {
                    "$cond": [
                        {"$ifNull": ["$$this.shadow.package.file_id", False]},
                        ["$$this.shadow.package.file_id"],
                        [],
                    ]
                },
            ]
        },
    }
}
_BUILT = {"$cond": [{"$ifNull": ["$delivery.package.file_id", False]}, ["$delivery.package.file_id"], []]}


def _source(field: str) -> Fields:
    """Return the expression for the blobs of a ``JobSource``: one file or several, and sample inputs."""
    samples = f"${field}.sample_inputs.file_id"
    return {
        "$concatArrays": [
            {"$ifNull": [f"${field}.files.file_id", [f"${field}.file_id"]]},
            {"$cond": [{"$ifNull": [samples, False]}, [samples], []]},
        ]
    }


_TEACHER = {"$cond": [{"$ifNull": ["$teacher.checksum", False]}, _source("teacher"), []]}
# A job releases its source, its teacher, its datasets and the state of its training when it ends.
_INPUT = {
    "$cond": [
        {"$in": ["$status", [status.value for status in JobStatus if not status.final]]},
        {
            "$concatArrays": [
                _source("source"),
                _TEACHER,
                {"$ifNull": ["$datasets.file_id", []]},
                _STATE,
            ]
        },
        [],
    ]
}

_AGGREGATE_S = 1800.0  # for millions of documents, sorted on disk

# Collection → an expression for the ids of the blobs that a document holds.
HOLDERS: dict[str, object] = {
    "models": _FILES,
    "deleted_models": _FILES,
    "datasets": _FILES,
    "removed_files": ["$file.file_id"],
    "export_jobs": {"$concatArrays": [_INPUT, _PACKAGE]},
    "evaluations": _INPUT,
    "deployments": {"$concatArrays": [_REVISIONS, _BUILT]},
    "package_builds": _INPUT,
}


class BlobHolder(TypedDict):
    kind: str
    id: object


class HeldBlob(TypedDict):
    """A blob with the number of its holders, and one of them."""

    _id: StoredId
    count: int
    holder: BlobHolder


def held_blobs(
    database: Database,
    session: Session | None,
    collections: Iterable[str] = HOLDERS,
    among: Fields | None = None,
) -> Iterator[HeldBlob]:
    """Yield ``{_id: file_id, count, holder: {kind, id}}`` for every held blob, sorted by its id.

    ``holder`` is one of the ``count`` holders. ``among`` is a query that restricts every collection.
    """
    names = [name for name in collections if name in HOLDERS]
    if not names:
        return
    pipeline: list[Fields] = [
        *_holdings(names[0], among),
        *({"$unionWith": {"coll": name, "pipeline": _holdings(name, among)}} for name in names[1:]),
        {"$group": {"_id": "$held", "count": {"$sum": 1}, "holder": {"$first": "$holder"}}},
        {"$sort": {"_id": 1}},
    ]
    with deadline(_AGGREGATE_S):
        found = rows(
            database.collection(names[0]).aggregate(pipeline, session=session, allowDiskUse=True), HeldBlob
        )
    with found:
        yield from found


def _holdings(name: str, among: Fields | None) -> list[Fields]:
    return [
        *([{"$match": among}] if among else []),
        {"$project": {"held": HOLDERS[name], "holder": {"kind": {"$literal": name}, "id": "$_id"}}},
        {"$unwind": "$held"},
    ]


def references_in(value: object) -> Iterator[BlobReference]:
    """Yield every sub-document that references a blob, anywhere in a document.

    JSON from a client never matches, whatever its field names, since JSON has no such ids.
    """
    if isinstance(value, Mapping):
        if isinstance(value.get("file_id"), ObjectId) and isinstance(value.get("checksum"), str):
            yield cast(BlobReference, value)
        for inner in value.values():
            yield from references_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references_in(inner)
