"""The files of a model version or dataset, stored at paths. A download returns the primary file.

The primary file is the one uploaded as the holder's own file, the one chosen as primary, or the only file.
"""

import hashlib
from collections.abc import Callable, Iterable
from typing import Generic

from model_service.errors import (
    FileTooLarge,
    IncompleteUpload,
    InvalidRequest,
    NoFile,
    NotFound,
    PreconditionFailed,
    ServiceUnavailable,
)
from model_service.services.files.changes import FileChanges, Outcome, Stored
from model_service.services.files.edits import file_at, is_new, with_file, without_file
from model_service.services.files.files import NewFile, StoredFile, require_announced
from model_service.services.files.holders import H, Holder
from model_service.services.files.names import OCTET_STREAM, check_path
from model_service.services.files.zip_archive import FileArchive
from model_service.services.models.replacement import NOTHING, Consent, require_consent
from model_service.storage.blobs.blobs import Blob, SizeLimitExceeded, WriteExpired, blob_of
from model_service.storage.blobs.descriptions import of_file
from model_service.storage.common.db import Session
from model_service.storage.common.documents import NOT_STORED, BlobReference, new_file
from model_service.storage.common.documents import StoredFile as FileEntry
from model_service.storage.common.file_entries import FilesEdit
from model_service.storage.stores import Stores

# Whether a request's conditions hold for the file at its path: given its sha256, or None if there is no file.
Condition = Callable[[str | None], bool]


def unconditional(sha256: str | None) -> bool:
    return True


class HeldFiles(Generic[H]):
    """The files of one kind of document; ``holder`` determines the kind and who may change the files."""

    def __init__(self, stores: Stores, holder: Holder[H], *, max_file_size: int) -> None:
        self._database = stores.database
        self._holder = holder
        self._blobs = stores.blobs
        self._changes = FileChanges(holder, stores.removed_files, stores.blobs)
        self.max_file_size = max_file_size

    def writable(self, reference: str, path: str | None = None) -> H:
        """Return a document that accepts files; checked before a file's bytes are read.

        The document contains at least those of its files that a change at the path may affect.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the document is archived.
        """
        document = self._holder.get_for_file(reference, path)
        self._holder.require_takes_files(document, reference)
        return document

    def store(
        self,
        document: H,
        pieces: Iterable[bytes],
        new: NewFile,
        *,
        sha256: str | None,
        condition: Condition = unconditional,
        consent: Callable[[], Consent] = lambda: NOTHING,
        ask_first: bool = True,
    ) -> Stored[H]:
        """Stream a file in and publish it at its path, by the rules of ``services.models.replacement``.

        If a file's announced sha256 is rejected or equals the stored file's, nothing is stored.

        Args:
            document: the result of ``writable``.
            pieces: the bytes, in pieces of any size.
            sha256: the 64 hexadecimal digits that the bytes must have, if the client announced them.
            consent: returns what the client consented to; a form may send it after the file.
            ask_first: check the announced sha256 before the bytes are read.

        Raises:
            NotFound, NotPermitted, Conflict: as ``writable``, if the document changed meanwhile; or the
                version has the maximum number of files.
            WouldReplace, ConfirmationRequired: nothing is stored.
            FileTooLarge: more than MAX_FILE_SIZE. Nothing is stored.
            IncompleteUpload: no bytes, or not the ones that ``sha256`` announced. Nothing is stored.
            PreconditionFailed: ``condition`` does not hold once the bytes are there. Nothing is stored.
        """
        check_condition(condition, file_at(document, new.path))
        if ask_first and sha256 is not None and self.announced(document, new, sha256, consent()):
            self._require_same(pieces, sha256)
            return Stored(document, Outcome.UNCHANGED)
        try:
            written = self._blobs.write(pieces, limit_bytes=self.max_file_size)
        except SizeLimitExceeded:
            raise FileTooLarge(self.max_file_size) from None
        if written.size_bytes == 0 and not new.may_be_empty:
            self._blobs.discard(written)
            raise IncompleteUpload("The upload is empty: send the file as the body or in the field 'file'.")
        try:
            require_announced("The bytes that arrived have", written.sha256, sha256)
            agreed = consent()
        except InvalidRequest:
            self._blobs.discard(written)
            raise
        return self.publish(document, written, new, condition=condition, consent=agreed)

    def announced(self, document: H, new: NewFile, sha256: str, consent: Consent) -> bool:
        """Return whether a file with this sha256 would change nothing; called before its bytes are sent.

        Raises:
            Conflict, WouldReplace, ConfirmationRequired: the file would be rejected.
        """
        entry: FileEntry = {
            "path": new.path,
            "checksum": f"sha256:{sha256.lower()}",
            "file_id": NOT_STORED,
            "size_bytes": 0,
        }
        edit = with_file(document, entry, new)
        require_consent(document, edit, consent, self._holder.dependents, None)
        unchanged = edit.primary == document["file_metadata"] and not edit.removed
        return unchanged and not is_new(document, edit)

    def _require_same(self, pieces: Iterable[bytes], sha256: str) -> None:
        """Read bytes that are stored already. Raises: IncompleteUpload, FileTooLarge: the bytes differ."""
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            if size > self.max_file_size:
                raise FileTooLarge(self.max_file_size)
        require_announced("The bytes that arrived have", digest.hexdigest(), sha256)

    def publish(
        self,
        document: H,
        written: Blob,
        new: NewFile,
        *,
        condition: Condition = unconditional,
        consent: Consent = NOTHING,
        also: Callable[[Blob, Session], None] | None = None,
        keep: bool = False,
    ) -> Stored[H]:
        """Publish written bytes as the file at a path, in one transaction.

        Returns the changed document, with at least those of its files that the change affects.

        Args:
            also: runs in the same transaction; an error that it raises aborts the transaction.
            keep: if publishing fails, keep the written bytes for another attempt.

        Raises:
            As ``store``; the written bytes are then removed, unless ``keep``.
        """
        done = Stored(document, Outcome.UNCHANGED)

        def refer(stored: Blob, session: Session) -> None:
            nonlocal done
            if also is not None:
                also(stored, session)
            entry = new_file(new.path, stored.reference(), new.content_type)

            def edit(before: H) -> FilesEdit:
                check_condition(condition, file_at(before, new.path))
                return with_file(before, entry, new)

            done = self._changes.change(
                document["_id"], new.path, edit, session, action="file_stored", consent=consent
            )

        try:
            with self._holder.changing(document["_id"]):
                described = of_file(document, new.path, new.content_type)
                self._blobs.publish(written, refer, keep=keep, described=described)
        except WriteExpired:
            raise ServiceUnavailable("The upload took longer than ORPHAN_SAFETY_S allows.") from None
        return done

    def remove(
        self,
        reference: str,
        path: str,
        *,
        condition: Condition = unconditional,
        consent: Consent = NOTHING,
    ) -> H:
        """Move the file at a path to the trash. Returns the changed document, as ``publish`` does.

        Raises:
            MalformedId, InvalidField, NotFound, NotPermitted, PreconditionFailed, ConfirmationRequired.
            Conflict: the document is archived.
        """
        path = check_path(path)
        document_id = self._holder.get_for_file(reference, path)["_id"]

        def edit(before: H) -> FilesEdit:
            file = file_at(before, path)
            if file is None:
                raise NotFound("file", path)
            check_condition(condition, file)
            return without_file(before, path)

        def work(session: Session) -> Stored[H]:
            return self._changes.change(
                document_id, path, edit, session, action="file_removed", consent=consent
            )

        with self._holder.changing(document_id):
            return self._database.transaction(work).document

    def get_with_file(self, reference: str) -> H:
        """Return a document that has a primary file.

        Raises:
            MalformedId, NotFound: there is no such document, or it has no file yet.
        """
        document = self._holder.get(reference)
        if document["file_metadata"] is None:
            raise NoFile(reference, self._holder.kind)
        return document

    def open_primary(self, document: H) -> StoredFile:
        """Open the primary file of a document that has one."""
        file = document["file_metadata"]
        assert file is not None
        return StoredFile.of(blob_of(file), file["filename"], self._blobs)

    def open(self, document: H, path: str) -> StoredFile:
        """Open the file at a path. Raises: InvalidField: invalid path. NotFound: no file there."""
        path = check_path(path)
        file = file_at(document, path)
        if file is None:
            raise NotFound("file", path)
        content_type = file.get("content_type", OCTET_STREAM)
        return StoredFile.of(blob_of(file), path.rpartition("/")[2], self._blobs, content_type)

    def archive(self, document: H) -> FileArchive:
        """Return all files of a document as a zip. Raises: NoFile: it has none."""
        if not document["files"]:
            raise NoFile(str(document["_id"]), self._holder.kind)
        return FileArchive.of(document, self._blobs)


def check_condition(condition: Condition, file: BlobReference | None) -> None:
    """Check a request's condition on the stored file. Raises: PreconditionFailed."""
    present = blob_of(file).sha256 if file is not None else None
    if not condition(present):
        raise PreconditionFailed(
            "The file at this path is not the one that the condition names: read its metadata and try again.",
            etag=present,
        )
