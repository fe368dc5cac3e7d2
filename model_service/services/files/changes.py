"""Change one file of a version or dataset: edit, consent, trash and blob references in one transaction."""

from collections.abc import Callable
from enum import Enum
from typing import Generic, NamedTuple

from model_service.errors import NotFound
from model_service.services.files.edits import file_at, is_new
from model_service.services.files.holders import H, Holder
from model_service.services.models.replacement import Consent, lost_files, require_consent
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.blobs.removed_files import RemovedFiles
from model_service.storage.common.db import Session
from model_service.storage.common.documents import StoredId
from model_service.storage.common.file_entries import FilesEdit


class Outcome(Enum):
    """Result of storing a file: a new path, other bytes at the path, or the same bytes as before."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Stored(NamedTuple, Generic[H]):
    """The document after storing a file, with at least those of its files that the change affects."""

    document: H
    outcome: Outcome


class FileChanges(Generic[H]):
    def __init__(self, holder: Holder[H], removed: RemovedFiles, blobs: Blobs) -> None:
        self.holder = holder
        self._removed = removed
        self._blobs = blobs

    def change(
        self,
        document_id: StoredId,
        path: str,
        edit: Callable[[H], FilesEdit],
        session: Session,
        *,
        action: str,
        consent: Consent,
    ) -> Stored[H]:
        """Change the file at a path; files that the change removes go to the trash with their blobs.

        A caller that stores a file has already counted a reference to its blob.

        Raises:
            NotFound, NotPermitted, Conflict: the document is gone, or its files cannot be changed.
            WouldReplace, ConfirmationRequired: the caller did not consent to the change.
            Any error that ``edit`` raises.
        """
        wanted: FilesEdit | None = None

        def checked(before: H) -> FilesEdit:
            nonlocal wanted
            self.holder.require_takes_files(before, str(document_id))
            wanted = edit(before)
            require_consent(before, wanted, consent, self.holder.dependents, session)
            return wanted

        change = self.holder.change_file(document_id, path, checked, session, action=action)
        if change is None or wanted is None:  # the document was deleted meanwhile
            raise NotFound(self.holder.kind, str(document_id))
        put = wanted.put
        lost = lost_files(change.before, wanted)
        replaced_by = put["checksum"] if put is not None else None
        self._removed.put(self.holder.kind, change.before, lost, session, replaced_by=replaced_by)
        if put is not None and not is_new(change.before, wanted):
            self._blobs.release(put["file_id"], session)  # the caller counted a second reference
        if change.after is change.before:
            return Stored(change.after, Outcome.UNCHANGED)
        created = put is not None and file_at(change.before, path) is None
        return Stored(change.after, Outcome.CREATED if created else Outcome.REPLACED)
