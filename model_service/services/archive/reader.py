"""Import of an archive: read the whole stream, store its blobs, then insert its documents.

Documents go to a temporary file while the stream is read. Blobs are stored at once, without references:
the sweep deletes them if no document follows. After ``end.json`` has confirmed that nothing is missing, the
documents are inserted in batches, each in a transaction with the reference counts of its blobs. Every step
can run twice: an interrupted import is completed by running it again.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from model_service.actor import namespace_of
from model_service.errors import Conflict, InvalidArchive
from model_service.services.archive.documents import check_document
from model_service.services.archive.format import (
    BLOB,
    DOCUMENTS,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    ArchiveDamaged,
    Member,
    Stream,
    read_members,
)
from model_service.storage.blobs.blobs import Blob, Blobs
from model_service.storage.common.db import Session
from model_service.storage.common.documents import AnyDocument, Described, FileHolder
from model_service.storage.migrations import LATEST, too_new
from model_service.storage.models.documents import DERIVED, UnlistedModel
from model_service.storage.models.search import derived_fields
from model_service.storage.operations.archive import (
    MAX_LINE_BYTES,
    REGISTRY,
    ArchiveStore,
    BlobsMissing,
    Inserted,
    from_line,
)

_BATCH, _BATCH_BYTES = 200, 4 << 20
_NO_LIMIT = 1 << 50
_MAX_CONFLICTS_TOLD = 100
# Unique keys that another document may have taken here, besides the id.
_KEYS = {"models": ("name", "version"), "datasets": ("name", "version")}
Note = Callable[[str, Sequence[AnyDocument], Session], None]


class Conflicts(StrEnum):
    """How to handle a document whose name and version belong to another document here."""

    SKIP = "skip"
    FAIL = "fail"


@dataclass
class Imported:
    inserted: Counter[str] = field(default_factory=Counter)
    existing: Counter[str] = field(default_factory=Counter)
    conflicts: list[str] = field(default_factory=list)
    conflict_count: int = 0
    blobs_stored: int = 0
    blobs_existing: int = 0
    bytes_stored: int = 0

    def to_json(self) -> dict[str, object]:
        return {
            "inserted": dict(self.inserted),
            "existing": dict(self.existing),
            "conflicts": {"count": self.conflict_count, "first": self.conflicts},
            "blobs": {"stored": self.blobs_stored, "existing": self.blobs_existing},
            "bytes_stored": self.bytes_stored,
        }


@dataclass
class _Aside:
    """The documents of the stream in a temporary file, by collection."""

    file: IO[bytes]
    parts: list[tuple[str, int, int]] = field(default_factory=list)  # collection, offset, size

    def batches(self) -> Iterator[tuple[str, list[AnyDocument]]]:
        for name, offset, size in self.parts:
            self.file.seek(offset)
            batch: list[AnyDocument] = []
            batch_bytes = 0
            while self.file.tell() < offset + size:
                line = self.file.readline(MAX_LINE_BYTES)
                batch.append(_parse(line))
                batch_bytes += len(line)
                if len(batch) == _BATCH or batch_bytes >= _BATCH_BYTES:
                    # The consumer of a batch must not read from the file, which would change its position.
                    yield name, batch
                    batch, batch_bytes = [], 0
            if batch:
                yield name, batch


class Importer:
    """Imports one archive into one database. Frequent calls of ``keep`` renew the lease against the sweep."""

    def __init__(self, store: ArchiveStore, blobs: Blobs, work: Path, keep: Callable[[], None]) -> None:
        self._store = store
        self._blobs = blobs
        self._work = work
        self._keep = keep
        self._result = Imported()
        self._version = 0

    def read(
        self, stream: Stream, *, allowed: Container[str] | None, conflicts: Conflicts, note: Note | None
    ) -> Imported:
        """Import the content of the stream.

        Args:
            allowed: the collections that it may contain; None: all.
            note: called with a collection and its new documents, in the transaction that inserts them.

        Raises:
            InvalidArchive: nothing of it is visible.
            Conflict: with ``Conflicts.FAIL``; nothing of it is visible.
        """
        self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=self._work) as file:
            aside = _Aside(file)
            try:
                self._take(stream, aside, allowed)
            except ArchiveDamaged as exc:
                raise InvalidArchive(f"{str(exc)[:1].upper()}{str(exc)[1:]}. Nothing was imported.") from exc
            self._check_documents(aside, conflicts, strictly=allowed is not None)
            for name, batch in self._batches(aside):
                self._insert(name, batch, note)
            self._store.derive(self._version)
        return self._result

    def _batches(self, aside: _Aside) -> Iterator[tuple[str, list[AnyDocument]]]:
        """Yield the documents, migrated to the schema of this version."""
        for name, batch in aside.batches():
            self._keep()
            try:
                yield name, self._store.upgrade(name, batch, self._version)
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
                reason = f"{type(exc).__name__}: {str(exc)[:100]}"
                raise InvalidArchive(
                    f"{name} of schema version {self._version} cannot be migrated ({reason})."
                ) from exc

    def _take(self, stream: Stream, aside: _Aside, allowed: Container[str] | None) -> None:
        manifest: dict[str, object] | None = None
        for member in read_members(stream):
            self._keep()
            if manifest is None:
                manifest = _check_manifest(member)
                self._version = _schema_version(manifest)
            elif match := DOCUMENTS.fullmatch(member.name):
                if allowed is not None and match[1] not in allowed:
                    raise ArchiveDamaged(
                        f"it contains {match[1]}, which an import does not accept: use "
                        "'model-service restore' for backups"
                    )
                self._take_documents(member, match[1], aside)
            elif match := BLOB.fullmatch(member.name):
                self._take_blob(member, match[1])
            else:
                raise ArchiveDamaged(f"{member.name[:200]!r} is not a member of an archive of this service")

    def _take_documents(self, member: Member, collection: str, aside: _Aside) -> None:
        offset = aside.file.seek(0, 2)
        for piece in member.pieces():
            aside.file.write(piece)
        aside.parts.append((collection, offset, member.size_bytes))

    def _take_blob(self, member: Member, sha256: str) -> None:
        def pieces() -> Iterator[bytes]:
            for piece in member.pieces():
                self._keep()
                yield piece

        if (there := self._store.blob_by_digest(sha256)) is not None:
            digest = hashlib.sha256()
            for piece in pieces():
                digest.update(piece)
            _check_digest(member, digest.hexdigest(), sha256)
            self._result.blobs_existing += 1
            self._store.touch(there)
            return
        written = self._blobs.write(pieces(), limit_bytes=_NO_LIMIT)
        try:
            _check_digest(member, written.sha256, sha256)
        except ArchiveDamaged:
            self._blobs.discard(written)
            raise
        self._blobs.publish(written, self._hold_by_nothing)
        self._result.blobs_stored += 1
        self._result.bytes_stored += written.size_bytes

    def _hold_by_nothing(self, stored: Blob, session: Session) -> None:
        """Remove the reference that publishing adds. Inserted documents add theirs."""
        self._blobs.release(stored.id, session)

    def _check_documents(self, aside: _Aside, conflicts: Conflicts, *, strictly: bool) -> None:
        """Check all documents before the first insert; ``strictly`` for archives of unknown origin."""
        for name, batch in self._batches(aside):
            for document in batch if strictly else ():
                _check_document(name, document)
            if name in _KEYS and (missing := self._store.missing_blobs(batch)):
                raise InvalidArchive(
                    f"The blob {missing[0]}, which the documents refer to, is not in the archive. "
                    "Nothing was imported."
                )
            if conflicts is Conflicts.FAIL and name in _KEYS:
                self._refuse_conflicts(name, batch)

    def _refuse_conflicts(self, name: str, batch: Sequence[AnyDocument]) -> None:
        if taken := self._store.taken(name, batch, _KEYS[name]):
            first = _label(name, taken[0])
            raise Conflict(
                f"{first} differs from the one that is stored here. Nothing was imported.", first=first
            )

    def _insert(self, name: str, batch: Sequence[AnyDocument], note: Note | None) -> None:
        for document in batch:
            _derive(name, document)

        def note_new(documents: Sequence[AnyDocument], session: Session) -> None:
            if note is not None:
                note(name, documents, session)

        try:
            inserted: Inserted = self._store.insert(name, batch, note_new)
        except BlobsMissing as exc:
            raise InvalidArchive(f"{exc}.") from exc
        self._result.inserted[name] += len(inserted.documents)
        self._result.existing[name] += inserted.existing
        self._result.conflict_count += len(inserted.conflicts)
        room = _MAX_CONFLICTS_TOLD - len(self._result.conflicts)
        self._result.conflicts += [_label(name, document) for document in inserted.conflicts[:room]]


def _check_manifest(member: Member) -> dict[str, object]:
    if member.name != MANIFEST:
        raise ArchiveDamaged("this is not an archive of this service: it does not begin with a manifest")
    manifest = member.json()
    if manifest.get("format") != FORMAT:
        raise ArchiveDamaged("this is not an archive of this service")
    if manifest.get("format_version") != FORMAT_VERSION:
        version = str(manifest.get("format_version"))[:20]
        raise ArchiveDamaged(f"its format version is {version}; this version reads {FORMAT_VERSION}")
    return manifest


def _schema_version(manifest: dict[str, object]) -> int:
    """Return the schema version of the archive's documents; 0 if it is older than migrations.

    Raises:
        ArchiveDamaged: the version is newer than this service reads.
    """
    version = manifest.get("schema_version", 0)
    if not isinstance(version, int) or version < 0:
        raise ArchiveDamaged("its schema_version is not a number")
    if version > LATEST:
        writer = str(manifest.get("service_version"))[:20]
        raise ArchiveDamaged(str(too_new("the archive", version, writer, LATEST)))
    return version


def _check_digest(member: Member, found: str, expected: str) -> None:
    if found != expected:
        raise ArchiveDamaged(f"the sha256 of {member.name} is {found}")


def _parse(line: bytes) -> AnyDocument:
    try:
        return from_line(line)
    except ValueError as exc:
        raise InvalidArchive(f"A document of the archive is not readable: {exc}.") from exc


def _check_document(name: str, document: AnyDocument) -> None:
    for field_name in DERIVED:
        document.pop(field_name, None)
    try:
        check_document(name, document)
    except ValueError as exc:
        raise InvalidArchive(f"{_label(name, document)}: {exc}. Nothing was imported.") from exc


def _derive(name: str, document: AnyDocument) -> None:
    """Recompute derived fields, which are never taken from an archive."""
    if name in REGISTRY:
        document["namespace"] = namespace_of(cast(Described, document)["name"])
    if name in _KEYS:
        files = cast(FileHolder, document)["files"]
        document["size_bytes"] = sum(file["size_bytes"] for file in files)
    if name == "models":
        document |= derived_fields(cast(UnlistedModel, document))


def _label(name: str, document: AnyDocument) -> str:
    key = " ".join(str(document[field])[:100] for field in _KEYS.get(name, ()) if field in document)
    return f"{name} {key or str(document['_id'])[:100]}"
