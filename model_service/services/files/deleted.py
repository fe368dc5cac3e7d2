"""The trash of files: list, restore and purge replaced or removed files of a version or dataset."""

from typing import Generic

from model_service.errors import MalformedId, NotFound
from model_service.services.common.paging import Page
from model_service.services.files.changes import FileChanges, Stored
from model_service.services.files.edits import with_file
from model_service.services.files.files import NewFile
from model_service.services.files.holders import H, Holder
from model_service.services.models.replacement import NOTHING, Consent
from model_service.storage.blobs.documents import RemovedFile
from model_service.storage.common.db import Session, object_id
from model_service.storage.stores import Stores


class DeletedFiles(Generic[H]):
    """The trash of files for one kind of document, as ``HeldFiles``."""

    def __init__(self, stores: Stores, holder: Holder[H]) -> None:
        self._database = stores.database
        self._holder = holder
        self._kind = holder.kind
        self._removed = stores.removed_files
        self._changes = FileChanges(holder, stores.removed_files, stores.blobs)

    def page(self, reference: str, page: int, limit: int) -> Page[RemovedFile]:
        """Return the replaced or removed files that can be restored, most recently removed first.

        Raises:
            MalformedId, NotFound.
        """
        document = self._holder.get(reference)
        items, total = self._removed.page(self._kind, document["_id"], (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def restore(
        self, reference: str, removed_id: str, *, consent: Consent = NOTHING
    ) -> tuple[Stored[H], str]:
        """Restore a removed file to its path; a file that is there now goes to the trash.

        Returns the stored file and its path.

        Raises:
            MalformedId, NotFound, NotPermitted, WouldReplace, ConfirmationRequired.
            Conflict: the document is archived, or has the maximum number of files.
        """
        document, removed = self._writable_removed(reference, removed_id)
        entry, was_primary = removed["file"], removed["was_primary"]
        new = NewFile(entry["path"], primary=was_primary, file_format=removed["format"])

        def work(session: Session) -> Stored[H]:
            if not self._removed.take(removed["_id"], session):
                raise NotFound("deleted file", removed_id)
            return self._changes.change(
                document["_id"],
                new.path,
                lambda before: with_file(before, entry, new),
                session,
                action="file_restored",
                consent=consent,
            )

        with self._holder.changing(document["_id"]):
            return self._database.transaction(work), new.path

    def purge(self, reference: str, removed_id: str) -> RemovedFile:
        """Remove a file from the trash permanently. Returns its trash entry.

        Raises:
            MalformedId, NotFound, NotPermitted.
            Conflict: the document is archived.
        """
        _, removed = self._writable_removed(reference, removed_id)
        if not self._removed.purge(removed["_id"]):
            raise NotFound("deleted file", removed_id)
        return removed

    def _writable_removed(self, reference: str, removed_id: str) -> tuple[H, RemovedFile]:
        document = self._holder.get(reference)
        self._holder.require_takes_files(document, reference)
        parsed = object_id(removed_id)
        if parsed is None:
            raise MalformedId("deleted file", removed_id)
        removed = self._removed.get(self._kind, document["_id"], parsed)
        if removed is None:
            raise NotFound("deleted file", removed_id)
        return document, removed
