"""The files of a model version, or of a dataset: at paths, one of them the primary one that a download gives.

The primary file is the one that was sent as the holder's own, or was asked to be, or is the only one.
"""

import hashlib
from collections.abc import Callable, Iterable

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
from model_service.services.files.holders import Holder
from model_service.services.files.names import OCTET_STREAM, check_path
from model_service.services.files.zip_archive import FileArchive
from model_service.services.models.replacement import NOTHING, Consent, require_consent
from model_service.storage.blobs.blobs import Blob, Blobs, SizeLimitExceeded, WriteExpired, blob_of
from model_service.storage.blobs.descriptions import of_file
from model_service.storage.blobs.removed_files import RemovedFiles
from model_service.storage.common.db import Database, Document, Session
from model_service.storage.common.file_entries import FilesEdit

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
        self._changes = FileChanges(holder, RemovedFiles(database, blobs), blobs)
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
        consent: Callable[[], Consent] = lambda: NOTHING,
        ask_first: bool = True,
    ) -> Stored:
        """Stream a file in and publish it at its path, as far as ``services.models.replacement`` allows.

        A file whose announced sha256 is refused, or is the stored one's, is not stored at all.

        Args:
            document: a ``writable`` one.
            pieces: the bytes, in any sizes.
            sha256: 64 hexadecimal digits that the bytes must have, where the sender knows them.
            consent: what the sender agreed to; a form may tell it behind its file.
            ask_first: refuse by the announced sha256, before the bytes are read.

        Raises:
            NotFound, NotPermitted, Conflict: as of ``writable``, meanwhile; the version is full.
            WouldReplace, ConfirmationRequired: nothing is kept.
            FileTooLarge: more than MAX_FILE_SIZE. Nothing is kept.
            IncompleteUpload: empty, or not the bytes that ``sha256`` announced. Nothing is kept.
            PreconditionFailed: ``condition`` does not hold when the bytes are there. Nothing is kept.
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

    def announced(self, document: Document, new: NewFile, sha256: str, consent: Consent) -> bool:
        """Whether a file of this sha256 would change nothing, asked before its bytes are sent.

        Raises:
            Conflict, WouldReplace, ConfirmationRequired: it would be refused.
        """
        entry = {"path": new.path, "checksum": f"sha256:{sha256.lower()}", "file_id": None, "size_bytes": 0}
        edit = with_file(document, entry, new)
        require_consent(document, edit, consent, self._holder.dependents, None)
        unchanged = edit.primary == document["file_metadata"] and not edit.removed
        return unchanged and not is_new(document, edit)

    def _require_same(self, pieces: Iterable[bytes], sha256: str) -> None:
        """Read bytes that are stored already. Raises: IncompleteUpload, FileTooLarge: they are other ones."""
        digest, size = hashlib.sha256(), 0
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            if size > self.max_file_size:
                raise FileTooLarge(self.max_file_size)
        require_announced("The bytes that arrived have", digest.hexdigest(), sha256)

    def publish(
        self,
        document: Document,
        written: Blob,
        new: NewFile,
        *,
        condition: Condition = unconditional,
        consent: Consent = NOTHING,
        also: Callable[[Blob, Session], None] | None = None,
        keep: bool = False,
    ) -> Stored:
        """Make written bytes the file at a path, in one transaction.

        Returns the document as it is then, with those of its files that this concerned.

        Args:
            also: what else belongs into the transaction; what it raises ends it.
            keep: leave the bytes where they are when it fails, for another try.

        Raises:
            as ``store``; the bytes are removed then.
        """
        done = Stored(document, Outcome.UNCHANGED)

        def refer(stored: Blob, session: Session) -> None:
            nonlocal done
            if also is not None:
                also(stored, session)
            entry = {"path": new.path, **stored.reference(), "content_type": new.content_type}

            def edit(before: Document) -> FilesEdit:
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
    ) -> Document:
        """Move the file at a path to the trash. Returns the document without it, as ``publish`` does.

        Raises:
            MalformedId, InvalidField, NotFound, NotPermitted, PreconditionFailed, ConfirmationRequired.
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

        def work(session: Session) -> Stored:
            return self._changes.change(
                document_id, path, edit, session, action="file_removed", consent=consent
            )

        with self._holder.changing(document_id):
            return self._database.transaction(work).document

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


def check_condition(condition: Condition, file: Document | None) -> None:
    """Raises: PreconditionFailed."""
    present = blob_of(file).sha256 if file is not None else None
    if not condition(present):
        raise PreconditionFailed(
            "The file at this path is another one, or not there: look at it and decide again.", etag=present
        )
