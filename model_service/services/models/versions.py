"""New model versions: their number and how they are stored."""

from dataclasses import dataclass

from model_service.errors import Conflict
from model_service.services.common.idempotency import Note
from model_service.services.common.references import MINORS, following, version_order
from model_service.services.models.origins import Origins
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.models.documents import Model, NumberedVersion, new_model, set_number
from model_service.storage.stores import Stores
from model_service.storage.versioned.records import DuplicateVersion
from model_service.storage.versioned.versions import RetiredVersion


@dataclass(frozen=True)
class Wanted:
    """The wanted number: ``version``, or the next after the newest of the name or of its ``major`` one."""

    version: str | None = None
    breaking: bool = False
    major: int | None = None

    def number(self, newest: int | None) -> NumberedVersion:
        """Return the version and its order. Raises: InvalidField: ``version`` is malformed."""
        version = self.version or following(newest, breaking=self.breaking)
        return {"version": version, "version_order": version_order(version)}


class NewVersions:
    def __init__(self, stores: Stores, origins: Origins) -> None:
        self._database = stores.database
        self._models = stores.models
        self._creations = stores.creations
        self._blobs = stores.blobs
        self._origins = origins

    def create(self, fields: Fields, wanted: Wanted, note: Note | None) -> Model:
        """Store a document with these fields, with references to its files and origins.

        Raises:
            InvalidField: the version is malformed.
            Conflict: the name has or had that version, or a referenced file or origin was removed meanwhile.
        """
        document = new_model(fields, self._models.new_id(), now())
        try:
            if (
                note is not None
                or wanted.major is not None
                or document["files"]
                or self._origins.named(document)
            ):
                self._store(document, wanted, note)
            elif wanted.version is None:
                self._creations.create(document, wanted.number)
            else:
                set_number(document, wanted.number(None))
                self._creations.create(document, None)
        except DuplicateVersion as duplicate:
            raise number_taken(document["name"], wanted.version, duplicate) from None
        return document

    def _store(self, document: Model, wanted: Wanted, note: Note | None) -> None:
        """Store with the requested or the next number. Raises: DuplicateVersion: the requested one exists."""
        files = [file["file_id"] for file in document["files"]]
        below = None if wanted.major is None else (wanted.major + 1) * MINORS

        def work(session: Session) -> None:
            if note is not None:
                note(document["_id"], session)
            if not self._blobs.retain_all(files, session):
                raise Conflict("The parent's files changed meanwhile. Send the request again.")
            self._origins.hold(document, session)
            self._models.insert(document, session)

        while True:
            newest = (
                None if wanted.version else self._models.newest_version_order(document["name"], below=below)
            )
            set_number(document, wanted.number(newest))
            try:
                self._database.transaction(work)
                return
            except DuplicateVersion:
                if wanted.version:
                    raise


def number_taken(name: str, version: str | None, duplicate: DuplicateVersion) -> Conflict:
    """Return the error for a requested version number that is taken."""
    taken = f"{name!r} already has {version}"
    if isinstance(duplicate, RetiredVersion):
        taken = f"{version} of {name!r} was deleted, and a version number is not used twice"
    return Conflict(f"{taken}; without 'version' the next number is chosen.", name=name, version=version)
