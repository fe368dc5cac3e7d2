"""How storing or removing one file changes a version's files and its primary file."""

from model_service.errors import Conflict
from model_service.services.files.files import NewFile
from model_service.services.files.names import format_of
from model_service.storage.common.documents import FileHolder, PrimaryFile, StoredFile, path_of
from model_service.storage.common.file_entries import FilesEdit

MAX_FILES = 10_000
# A version is one MongoDB document, and these are limited to 16 MiB.
MAX_PATHS_BYTES = 8 * 1024 * 1024


def file_at(document: FileHolder, path: str) -> StoredFile | None:
    return next((file for file in document["files"] if file["path"] == path), None)


def with_file(before: FileHolder, entry: StoredFile, new: NewFile) -> FilesEdit:
    """Return the edit that puts a file at its path and replaces a file there; equal bytes change nothing.

    Raises:
        Conflict: the version has the maximum number of files, or of bytes in paths.
    """
    path = entry["path"]
    primary = before["file_metadata"]
    there = file_at(before, path)
    if there is not None and there["checksum"] == entry["checksum"]:
        entry = there  # the same bytes again: the entry stays unchanged
    present = {file["path"] for file in before["files"]}
    replaced = {path_of(primary)} if new.replaces_primary and primary is not None else set()
    removed = (replaced & present) - {path}
    added = {path} - present
    files = before["file_count"] + len(added) - len(removed)
    path_bytes = before["path_bytes"] + _path_bytes(added) - _path_bytes(removed)
    if added and (files > MAX_FILES or path_bytes > MAX_PATHS_BYTES):
        raise Conflict(
            f"A version holds at most {MAX_FILES:,} files, and {MAX_PATHS_BYTES:,} bytes of paths.",
            files=before["file_count"],
        )
    is_primary = primary is not None and path == path_of(primary)
    if is_primary and entry is there and new.file_format is None:
        return FilesEdit(primary, entry, frozenset(removed))
    if new.primary or primary is None or is_primary:
        primary = _metadata(entry, new.filename, new.file_format)
    return FilesEdit(primary, entry, frozenset(removed))


def without_file(before: FileHolder, path: str) -> FilesEdit:
    """Return the edit that removes the file at a path; a single file that is left becomes the primary one."""
    left = [file for file in before["files"] if file["path"] != path]
    primary = before["file_metadata"]
    if primary is not None and path_of(primary) == path:
        primary = None
    if primary is None and before["file_count"] == 2:
        primary = _metadata(left[0])
    return FilesEdit(primary, removed=frozenset({path}))


def is_new(before: FileHolder, edit: FilesEdit) -> bool:
    """Return whether the edit puts different bytes at its path."""
    put = edit.put
    there = file_at(before, put["path"]) if put is not None else None
    return there is None or put is None or there["checksum"] != put["checksum"]


def _path_bytes(paths: set[str]) -> int:
    return sum(len(path.encode()) for path in paths)


def _metadata(entry: StoredFile, filename: str | None = None, file_format: str | None = None) -> PrimaryFile:
    name = filename or entry["path"].rpartition("/")[2]
    return {
        "file_id": entry["file_id"],
        "size_bytes": entry["size_bytes"],
        "checksum": entry["checksum"],
        "path": entry["path"],
        "format": file_format or format_of(name),
        "filename": name,
    }
