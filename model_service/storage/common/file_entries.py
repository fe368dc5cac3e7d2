"""Changes of one file entry in a document that may have thousands, without transferring the others.

A version's files are a list in its document. Storing one of ten thousand files reads only affected entries
and writes an update that MongoDB applies itself. Neither the traffic nor the oplog grows with the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pymongo.collection import Collection

from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import (
    Fields,
    FileHolder,
    Pipeline,
    PrimaryFile,
    StoredFile,
    StoredId,
    changed,
)

H = TypeVar("H", bound=FileHolder)
# Up to two files are always read: if one is removed, the remaining one may become the primary file.
_FEW = 2


@dataclass(frozen=True)
class FilesEdit:
    """An edit: a file to put at its path, paths to remove, and the resulting primary file."""

    primary: PrimaryFile | None
    put: StoredFile | None = None
    removed: frozenset[str] = frozenset()


def find_for_file(
    collection: Collection[H], stages: Pipeline, path: str | None, session: Session | None = None
) -> H | None:
    """Return the document that the stages select, with the ``files`` that a change at the path may affect.

    These are the file at the path, the primary file, and all files if there are at most two. ``file_count``
    and ``path_bytes`` are of all files.
    """
    concerned = {
        "$or": [
            {"$eq": ["$$file.path", {"$literal": path}]},
            {"$eq": ["$$file.path", {"$ifNull": ["$file_metadata.path", "$file_metadata.filename"]}]},
            {"$lte": [{"$size": "$files"}, _FEW]},
        ]
    }
    summary = {
        "file_count": {"$size": "$files"},
        "path_bytes": {"$sum": {"$map": {"input": "$files.path", "in": {"$strLenBytes": "$$this"}}}},
        "size_bytes": {"$sum": "$files.size_bytes"},
        "files": {"$filter": {"input": "$files", "as": "file", "cond": concerned}},
    }
    return next(collection.aggregate([*stages, {"$set": summary}], session=session), None)


def change_files(
    collection: Collection[H],
    document_id: StoredId,
    path: str,
    edit: Callable[[H], FilesEdit],
    session: Session,
) -> tuple[H, H] | None:
    """Change the file at a path, and the primary file if it follows; None if there is no document.

    Args:
        edit: receives the result of ``find_for_file``. An error that it raises aborts the transaction.

    Returns:
        the document before and after, with these files; the same object twice if nothing changes.
    """
    before = find_for_file(collection, [{"$match": {"_id": document_id}}], path, session)
    if before is None:
        return None
    wanted = edit(before)
    files = _changed(before["files"], wanted)
    if files == before["files"] and wanted.primary == before["file_metadata"]:
        return before, before
    changes = {
        "size_bytes": before["size_bytes"] + _size(files) - _size(before["files"]),
        "revision": before["revision"] + 1,
        "updated_at": now(),
    }
    update = {"files": _expression(before, wanted), "file_metadata": {"$literal": wanted.primary}, **changes}
    collection.update_one({"_id": document_id}, [{"$set": update}], session=session)
    return before, changed(before, {**changes, "files": files, "file_metadata": wanted.primary})


def change_details(before: FileHolder, after: FileHolder, path: str) -> Fields:
    """Return audit details: the file at the path, and the files that were replaced or removed."""
    kept = {(file["path"], file["checksum"]) for file in after["files"]}
    removed = [
        {"path": file["path"], "checksum": file["checksum"]}
        for file in before["files"]
        if (file["path"], file["checksum"]) not in kept
    ]
    stored = next((file["checksum"] for file in after["files"] if file["path"] == path), None)
    return {"path": path, "checksum": stored, "removed": removed}


def _changed(files: list[StoredFile], edit: FilesEdit) -> list[StoredFile]:
    """Return the files after the edit: without those it removes; a new one replaces the file at its path."""
    kept = [file for file in files if file["path"] not in edit.removed]
    put = edit.put
    if put is None:
        return kept
    if any(file["path"] == put["path"] for file in kept):
        return [put if file["path"] == put["path"] else file for file in kept]
    return [*kept, put]


def _expression(before: FileHolder, edit: FilesEdit) -> object:
    """``_changed`` as a MongoDB expression. A path may begin with ``$``, so every path is a ``$literal``."""
    kept: object = "$files"
    if edit.removed:
        gone = {"$in": ["$$file.path", {"$literal": sorted(edit.removed)}]}
        kept = {"$filter": {"input": "$files", "as": "file", "cond": {"$not": gone}}}
    put = edit.put
    if put is None:
        return kept
    if any(file["path"] == put["path"] for file in before["files"]):
        here = {"$eq": ["$$file.path", {"$literal": put["path"]}]}
        replaced = {"$cond": [here, {"$literal": put}, "$$file"]}
        return {"$map": {"input": kept, "as": "file", "in": replaced}}
    return {"$concatArrays": [kept, {"$literal": [put]}]}


def _size(files: list[StoredFile]) -> int:
    return sum(file["size_bytes"] for file in files)
