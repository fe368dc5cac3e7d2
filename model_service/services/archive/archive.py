"""Archives in one format: everything for a backup, or the registry's part for another instance.

Documents are read in one snapshot into a temporary file, with the list of their blobs. Then blobs are read
from the database, while the sweep deletes none. So an archive shows one moment, however long it takes and
whatever is written meanwhile. See ``format`` for the layout and ``reader`` for the import.
"""

import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from model_service import __version__
from model_service.actor import Permission, require
from model_service.errors import DamagedBlob
from model_service.services.archive.format import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    Stream,
    Writer,
    blob_name,
    document_name,
)
from model_service.services.archive.reader import Conflicts, Imported, Importer
from model_service.storage.blobs.blobs import Blob, BlobDamaged
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import AnyDocument
from model_service.storage.datasets.documents import Dataset
from model_service.storage.migrations import COLLECTIONS, LATEST
from model_service.storage.models.documents import Model
from model_service.storage.operations.archive import (
    REGISTRY,
    BlobsMissing,
    pack_blob,
    unpack_blobs,
)
from model_service.storage.stores import Stores

BACKUP = "backup"
Progress = Callable[[int, int], None]  # bytes done, bytes in total
_MEMBER_BYTES = 4 << 20


class Scope(StrEnum):
    REGISTRY = "registry"
    EVERYTHING = "everything"


class DatabaseNotEmpty(Exception):
    """The database of a restore has documents already: two instances would be mixed."""


@dataclass
class _Spool:
    """The content of the snapshot: the serialised documents, and a record for each blob."""

    documents: IO[bytes]
    blobs: IO[bytes]
    members: list[tuple[str, int]] = field(default_factory=list)  # name, size
    counts: dict[str, int] = field(default_factory=dict)
    blob_count: int = 0
    blob_bytes: int = 0

    @property
    def summary(self) -> dict[str, object]:
        blobs = {"count": self.blob_count, "size_bytes": self.blob_bytes}
        return {"collections": self.counts, "blobs": blobs}


class ArchiveService:
    """``work`` is the folder for temporary files: a few kB for each model."""

    def __init__(self, stores: Stores, work: Path) -> None:
        self._database = stores.database
        self._blobs = stores.blobs
        self._store = stores.archive
        self._leases = stores.leases
        self._counters = stores.counters
        self._downloads = stores.downloads
        self._scans = stores.scans
        self._inspections = stores.inspections
        self._audit = stores.audit
        self._maintenance = stores.maintenance
        self._work = work

    def export(self, scope: Scope, progress: Progress | None = None) -> Generator[bytes]:
        """Return the archive in pieces. The snapshot is taken before this method returns.

        Raises:
            NotPermitted.
            DamagedBlob: by this call, or while the pieces are read; the archive is then incomplete, and every
                reader rejects it.
        """
        require(Permission.ADMIN)
        pieces = self._export(scope, progress)
        first = next(pieces)

        def all_pieces() -> Generator[bytes]:
            try:
                yield first
                yield from pieces
            finally:
                pieces.close()

        return all_pieces()

    def _export(self, scope: Scope, progress: Progress | None) -> Generator[bytes]:
        created_at = now()
        writer = Writer(mtime=int(created_at.timestamp()))
        self._work.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (
            self._leases.archive() as keep,
            tempfile.TemporaryFile(dir=self._work) as documents,
            tempfile.TemporaryFile(dir=self._work) as blobs,
        ):
            spool = self._spool(scope, documents, blobs)
            yield from writer.json(MANIFEST, _manifest(scope, created_at, spool))
            documents.seek(0)
            for name, size in spool.members:
                keep()
                yield from writer.member(name, size, _take(documents, size))
            done = 0
            for blob in unpack_blobs(blobs):
                for piece in writer.member(blob_name(blob.sha256), blob.size_bytes, self._bytes(blob)):
                    keep()
                    yield piece
                done += blob.size_bytes
                if progress:
                    progress(done, spool.blob_bytes)
            yield from writer.end(spool.summary)

    def _spool(self, scope: Scope, documents: IO[bytes], blobs: IO[bytes]) -> _Spool:
        spool = _Spool(documents, blobs)
        there = self._store.collections()
        names = there if scope is Scope.EVERYTHING else [name for name in REGISTRY if name in there]
        try:
            with self._database.snapshot() as session:
                for name in names:
                    self._spool_documents(spool, name, session)
                for blob in self._store.blobs_of(names, session):
                    spool.blob_count += 1
                    spool.blob_bytes += blob.size_bytes
                    blobs.write(pack_blob(blob))
        except BlobsMissing as exc:
            raise DamagedBlob(f"{exc}; 'model-service verify' lists every damaged file.") from exc
        blobs.seek(0)
        return spool

    def _spool_documents(self, spool: _Spool, name: str, session: Session) -> None:
        size = number = count = 0

        def close_member() -> None:
            nonlocal size, number
            if size:
                number += 1
                spool.members.append((document_name(name, number), size))
                size = 0

        for line in self._store.documents(name, session):
            spool.documents.write(line)
            size += len(line)
            count += 1
            if size >= _MEMBER_BYTES:
                close_member()
        close_member()
        spool.counts[name] = count

    def _bytes(self, blob: Blob) -> Iterator[bytes]:
        try:
            yield from self._blobs.read(blob.id, 0, blob.size_bytes)
        except BlobDamaged as exc:
            raise DamagedBlob(f"{exc}; 'model-service verify' lists the models that use it.") from exc

    def record_backup(self, duration_s: float) -> None:
        """Record that a backup was written completely just now."""
        require(Permission.ADMIN)
        self._maintenance.ended(BACKUP, {"duration_s": round(duration_s, 1)})

    def import_registry(self, stream: Stream, conflicts: Conflicts) -> Imported:
        """Add the documents of a registry's archive to this registry. Existing documents are not changed.

        Raises:
            NotPermitted.
            InvalidArchive: no document of it was inserted.
            Conflict: with ``Conflicts.FAIL``, a name and version belong to another model here.
        """
        require(Permission.ADMIN)
        with self._leases.archive() as keep:
            importer = Importer(self._store, self._blobs, self._work, keep)
            imported = importer.read(stream, allowed=REGISTRY, conflicts=conflicts, note=self._count)
            self._downloads.rebuild()
        self._audit.record("imported", "registry", "registry", session=None, details=imported.to_json())
        return imported

    def _count(self, name: str, documents: Sequence[AnyDocument], session: Session) -> None:
        if name == "models":
            models = [cast(Model, document) for document in documents]
            self._counters.add(models, session)
            # A scan verdict from another instance cannot be trusted.
            self._scans.look_again([model["_id"] for model in models if model["files"]], session)
        if name == "datasets":
            self._inspections.look_again([cast(Dataset, document) for document in documents], session)

    def restore(self, stream: Stream, *, force: bool = False) -> Imported:
        """Restore a backup and rebuild the statistics. ``force``: add it to a database that is not empty.

        Raises:
            NotPermitted.
            DatabaseNotEmpty.
            InvalidArchive: no document of it was inserted.
        """
        require(Permission.ADMIN)
        if not force and not self._store.empty():
            raise DatabaseNotEmpty(
                "This database is not empty: a backup can only be restored into an empty one."
            )
        with self._leases.archive() as keep:
            importer = Importer(self._store, self._blobs, self._work, keep)
            try:
                return importer.read(stream, allowed=None, conflicts=Conflicts.SKIP, note=None)
            finally:
                self._counters.rebuild()
                self._downloads.rebuild()


def _manifest(scope: Scope, created_at: datetime, spool: _Spool) -> dict[str, object]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "service_version": __version__,
        "schema_version": LATEST,
        "schema_versions": {name: COLLECTIONS.get(name, 0) for name in spool.counts},
        "scope": scope.value,
        "created_at": created_at.isoformat(),
        **spool.summary,
    }


def _take(file: IO[bytes], size: int) -> Iterator[bytes]:
    while size and (piece := file.read(min(size, 1 << 20))):
        size -= len(piece)
        yield piece
