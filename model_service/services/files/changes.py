"""Changing one file of a version or dataset: the edit, the rule, the trash and the references at once."""

from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from model_service.errors import NotFound
from model_service.services.files.edits import file_at, is_new
from model_service.services.files.holders import Holder
from model_service.services.models.replacement import Consent, lost_files, require_consent
from model_service.storage.blobs.blobs import Blobs
from model_service.storage.blobs.removed_files import RemovedFiles
from model_service.storage.common.db import Document, Session
from model_service.storage.common.file_entries import FilesEdit


class Outcome(Enum):
    """What storing a file did: nothing was at its path, something was, or its bytes were there already."""

    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class Stored(NamedTuple):
    """The document after storing a file, with those of its files that this concerned."""

    document: Document
    outcome: Outcome


class FileChanges:
    def __init__(self, holder: Holder, removed: RemovedFiles, blobs: Blobs) -> None:
        self.holder = holder
        self._removed = removed
        self._blobs = blobs

    def change(
        self,
        document_id: Any,
        path: str,
        edit: Callable[[Document], FilesEdit],
        session: Session,
        *,
        action: str,
        consent: Consent,
    ) -> Stored:
        """Change the file at a path; the files that this takes away go to the trash with their blobs.

        The caller that stores a file has counted a reference to its blob.

        Raises:
            NotFound, NotPermitted, Conflict: the document is gone, or takes no files.
            WouldReplace, ConfirmationRequired: the caller did not agree to it.
            what ``edit`` raises.
        """
        wanted: FilesEdit | None = None

        def checked(before: Document) -> FilesEdit:
            nonlocal wanted
            self.holder.require_takes_files(before, str(document_id))
            wanted = edit(before)
            require_consent(before, wanted, consent, self.holder.dependents, session)
            return wanted

        change = self.holder.change_file(document_id, path, checked, session, action=action)
        if change is None or wanted is None:  # deleted meanwhile
            raise NotFound(self.holder.kind, str(document_id))
        put = wanted.put
        lost = lost_files(change.before, wanted)
        replaced_by = put["checksum"] if put is not None else None
        self._removed.put(self.holder.kind, change.before, lost, session, replaced_by=replaced_by)
        if put is not None and not is_new(change.before, wanted):
            self._blobs.release(put["file_id"], session)  # it was counted a second time
        if change.after is change.before:
            return Stored(change.after, Outcome.UNCHANGED)
        created = put is not None and file_at(change.before, path) is None
        return Stored(change.after, Outcome.CREATED if created else Outcome.REPLACED)
