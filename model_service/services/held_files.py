"""The files of a model version, or of a dataset: at paths, one of them the primary one that a download gives.

The primary file is the one that was sent as the holder's own, or was asked to be, or is the only one.
"""

from collections.abc import Callable, Iterable
from typing import Any

from model_service.errors import (
    Conflict,
    FileTooLarge,
    IncompleteUpload,
    NoFile,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
)
from model_service.services.file_archive import FileArchive
from model_service.services.file_holders import Holder
from model_service.services.file_names import OCTET_STREAM, check_path, format_of
from model_service.services.files import NewFile, StoredFile, require_announced
from model_service.storage.blob_descriptions import of_file
from model_service.storage.blobs import Blob, Blobs, SizeLimitExceeded, WriteExpired, blob_of
from model_service.storage.db import Database, Document, Session
from model_service.storage.file_entries import FilesEdit

MAX_FILES = 10_000
# A version is one document, and MongoDB's documents end at 16 MiB.
MAX_PATHS_BYTES = 8 * 1024 * 1024

# Whether a request's conditions hold for the file at its path: its sha256, or None where there is none.
Condition = Callable[[str | None], bool]


def unconditional(sha256: str | None) -> bool:
    return True


class HeldFiles:
    """The files of one kind of documents; the ``holder`` says which, and who may change them."""

    def __init__(self, database: Database, holder: Holder, blobs: Blobs, *, max_file_size: int) -> None:
        self._database = database
        self._holder = holder
        self._blobs = blobs
        self.max_file_size = max_file_size

    def writable(self, reference: str, path: str | None = None) -> Document:
        """A document that takes a file, asked before its bytes are read.

        Of its files it has those at least that a change at the path may concern.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: it is archived.
        """
        document = self._holder.get_for_file(reference, path)
        self._holder.require_takes_files(document, reference)
        return document

    def store(
        self,
        document: Document,
        pieces: Iterable[bytes],
        new: NewFile,
        *,
        sha256: str | None,
        condition: Condition = unconditional,
    ) -> Document:
        """Stream a file in and publish it at its path; a file that was there is let go.

        Returns the document, as ``publish`` does.

        Args:
            document: a ``writable`` one.
            pieces: the bytes, in any sizes.
            sha256: 64 hexadecimal digits that the bytes must have, where the sender knows them.

        Raises:
            NotFound, NotPermitted, Conflict: as of ``writable``, meanwhile; the version is full.
            FileTooLarge: more than MAX_FILE_SIZE. Nothing is kept.
            IncompleteUpload: empty, or not the bytes that ``sha256`` announced. Nothing is kept.
            PreconditionFailed: ``condition`` does not hold when the bytes are there. Nothing is kept.
        """
        check_condition(condition, file_at(document, new.path))
        try:
            written = self._blobs.write(pieces, limit_bytes=self.max_file_size)
        except SizeLimitExceeded:
            raise FileTooLarge(self.max_file_size) from None
        if written.size_bytes == 0 and not new.may_be_empty:
            self._blobs.discard(written)
            raise IncompleteUpload("The upload is empty: send the file as the body or in the field 'file'.")
        try:
            require_announced("The bytes that arrived have", written.sha256, sha256)
        except IncompleteUpload:
            self._blobs.discard(written)
            raise
        return self.publish(document, written, new, condition=condition)

    def publish(
        self,
        document: Document,
        written: Blob,
        new: NewFile,
        *,
        condition: Condition = unconditional,
        also: Callable[[Blob, Session], None] | None = None,
        keep: bool = False,
    ) -> Document:
        """Make written bytes the file at a path, in one transaction.

        Returns the document as it is then, with those of its files that this concerned.

        Args:
            also: what else belongs into the transaction; what it raises ends it.
            keep: leave the bytes where they are when it fails, for another try.

        Raises:
            as ``store``; the bytes are removed then.
        """
        after: Document = {}

        def refer(stored: Blob, session: Session) -> None:
            nonlocal after
            if also is not None:
                also(stored, session)
            entry = {"path": new.path, **stored.reference(), "content_type": new.content_type}

            def edit(before: Document) -> FilesEdit:
                check_condition(condition, file_at(before, new.path))
                return with_file(before, entry, new)

            after = self._change(document["_id"], edit, session, "file_stored", new.path)

        try:
            with self._holder.changing(document["_id"]):
                described = of_file(document, new.path, new.content_type)
                self._blobs.publish(written, refer, keep=keep, described=described)
        except WriteExpired:
            raise ServiceUnavailable("The upload took longer than ORPHAN_SAFETY_S allows.") from None
        return after

    def remove(self, reference: str, path: str, *, condition: Condition = unconditional) -> Document:
        """Remove the file at a path. Returns the document without it, as ``publish`` does.

        Raises:
            MalformedId, InvalidField, NotFound, NotPermitted, PreconditionFailed.
            Conflict: the document is archived.
        """
        path = check_path(path)
        document_id = self._holder.get_for_file(reference, path)["_id"]

        def edit(before: Document) -> FilesEdit:
            file = file_at(before, path)
            if file is None:
                raise NotFound("file", path)
            check_condition(condition, file)
            return without_file(before, path)

        def work(session: Session) -> Document:
            return self._change(document_id, edit, session, "file_removed", path)

        with self._holder.changing(document_id):
            return self._database.transaction(work)

    def _change(
        self,
        document_id: Any,
        edit: Callable[[Document], FilesEdit],
        session: Session,
        action: str,
        path: str,
    ) -> Document:
        """Change the file at a path and release the blobs that are let go.

        Returns the document with those of its files that this concerned.
        """

        def checked(before: Document) -> FilesEdit:
            self._holder.require_takes_files(before, str(document_id))
            return edit(before)

        change = self._holder.change_file(document_id, path, checked, session, action=action)
        if change is None:  # deleted meanwhile
            raise NotFound(self._holder.kind, str(document_id))
        self._blobs.release_all(_released(change.before["files"], change.after["files"], path), session)
        return change.after

    def get_with_file(self, reference: str) -> Document:
        """Raises: MalformedId, NotFound: no such document, or it has no file yet."""
        document = self._holder.get(reference)
        if document["file_metadata"] is None:
            raise NoFile(reference, self._holder.kind)
        return document

    def open_primary(self, document: Document) -> StoredFile:
        """The primary file of a document that has one."""
        file = document["file_metadata"]
        return StoredFile.of(blob_of(file), file["filename"], self._blobs)

    def open(self, document: Document, path: str) -> StoredFile:
        """Raises: InvalidField: no path. NotFound: no file at it."""
        path = check_path(path)
        file = file_at(document, path)
        if file is None:
            raise NotFound("file", path)
        content_type = file.get("content_type", OCTET_STREAM)
        return StoredFile.of(blob_of(file), path.rpartition("/")[2], self._blobs, content_type)

    def archive(self, document: Document) -> FileArchive:
        """All files of a document. Raises: NoFile: it has none."""
        if not document["files"]:
            raise NoFile(str(document["_id"]), self._holder.kind)
        return FileArchive.of(document, self._blobs)


def file_at(document: Document, path: str) -> Document | None:
    return next((file for file in document["files"] if file["path"] == path), None)


def check_condition(condition: Condition, file: Document | None) -> None:
    """Raises: PreconditionFailed."""
    present = blob_of(file).sha256 if file is not None else None
    if not condition(present):
        raise PreconditionFailed(
            "The file at this path is another one, or not there: look at it and decide again.", etag=present
        )


def with_file(before: Document, entry: Document, new: NewFile) -> FilesEdit:
    """A version gets this file at its path, in the place of what is there.

    Raises:
        Conflict: it has as many files as a version may, or too many long paths.
    """
    path = entry["path"]
    primary = before["file_metadata"]
    present = {file["path"] for file in before["files"]}
    replaced = {_primary_path(before)} if new.replaces_primary and primary is not None else set()
    removed = (replaced & present) - {path}
    added = {path} - present
    files = before["file_count"] + len(added) - len(removed)
    path_bytes = before["path_bytes"] + _path_bytes(added) - _path_bytes(removed)
    if added and (files > MAX_FILES or path_bytes > MAX_PATHS_BYTES):
        raise Conflict(
            f"A version holds at most {MAX_FILES:,} files, and {MAX_PATHS_BYTES:,} bytes of paths.",
            files=before["file_count"],
        )
    if new.primary or primary is None or path == _primary_path(before):
        primary = _metadata(entry, new.filename, new.file_format)
    return FilesEdit(primary, entry, frozenset(removed))


def without_file(before: Document, path: str) -> FilesEdit:
    """A version loses the file at a path; the only one that is left is the primary one."""
    left = [file for file in before["files"] if file["path"] != path]
    primary = before["file_metadata"]
    if primary is not None and _primary_path(before) == path:
        primary = None
    if primary is None and before["file_count"] == 2:
        primary = _metadata(left[0])
    return FilesEdit(primary, removed=frozenset({path}))


def _path_bytes(paths: set[str]) -> int:
    return sum(len(path.encode()) for path in paths)


def _metadata(entry: Document, filename: str | None = None, file_format: str | None = None) -> Document:
    name = filename or entry["path"].rpartition("/")[2]
    return {
        **{key: entry[key] for key in ("file_id", "size_bytes", "checksum", "path")},
        "format": file_format or format_of(name),
        "filename": name,
    }


def _primary_path(document: Document) -> str:
    primary = document["file_metadata"]
    return str(primary.get("path", primary["filename"]))


def _released(before: list[Document], after: list[Document], path: str) -> list[Any]:
    """The blobs no longer referred to; ``path`` was referred to anew, even where the bytes are equal."""
    kept = {file["path"] for file in after} - {path}
    return [file["file_id"] for file in before if file["path"] not in kept]
