"""One file of a document that may hold thousands: changed without the others crossing the wire.

A version's files are a list in its document. Storing one of ten thousand reads what concerns it and writes an
update that MongoDB applies there, so that neither what is sent nor the oplog's entry grows with the others.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection

from model_service.storage.common.db import Document, Session, now

# Few enough to come along whatever they are: what is left when one goes may become the primary file.
_FEW = 2


@dataclass(frozen=True)
class FilesEdit:
    """A file that is put at its path, paths that are removed, and the primary file then."""

    primary: Document | None
    put: Document | None = None
    removed: frozenset[str] = frozenset()


def find_for_file(
    collection: Collection[Document], stages: list[Document], path: str | None, session: Session | None = None
) -> Document | None:
    """The document that the stages give, with those of its ``files`` that a change at the path may concern.

    They are the one at the path, the primary one, and all where there are no more than two. ``file_count``
    and ``path_bytes`` are of all of them.
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
    collection: Collection[Document],
    document_id: Any,
    path: str,
    edit: Callable[[Document], FilesEdit],
    session: Session,
) -> tuple[Document, Document] | None:
    """Change the file at a path, and the primary one where that follows; None when there is no document.

    Args:
        edit: gets the document as of ``find_for_file``. What it raises ends the transaction.

    Returns:
        the document before and after, with these files; the same one twice where nothing changes.
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
    return before, before | changes | {"files": files, "file_metadata": wanted.primary}


def change_details(before: Document, after: Document, path: str) -> Document:
    """For the audit log: the file at the path, and those that it replaced or that were removed."""
    kept = {(file["path"], file["checksum"]) for file in after["files"]}
    removed = [
        {"path": file["path"], "checksum": file["checksum"]}
        for file in before["files"]
        if (file["path"], file["checksum"]) not in kept
    ]
    stored = next((file["checksum"] for file in after["files"] if file["path"] == path), None)
    return {"path": path, "checksum": stored, "removed": removed}


def _changed(files: list[Document], edit: FilesEdit) -> list[Document]:
    """What the update makes of these: a file takes the place of what was at its path, or comes last."""
    kept = [file for file in files if file["path"] not in edit.removed]
    put = edit.put
    if put is None:
        return kept
    if any(file["path"] == put["path"] for file in kept):
        return [put if file["path"] == put["path"] else file for file in kept]
    return [*kept, put]


def _expression(before: Document, edit: FilesEdit) -> Any:
    """``_changed`` for MongoDB. A path may begin with ``$``, so that nothing of it stands there unquoted."""
    kept: Any = "$files"
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


def _size(files: list[Document]) -> int:
    return sum(file["size_bytes"] for file in files)
