"""Export and import of collections: documents as lines of Extended JSON, blobs by their digests."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, cast

from bson import ObjectId, encode, json_util
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from model_service.storage.blobs.blobs import Blob
from model_service.storage.blobs.descriptions import descriptions
from model_service.storage.blobs.references import HOLDERS, HeldBlob, held_blobs, references_in
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import AnyDocument, Fields, FileHolder
from model_service.storage.migrations import derive, upgrade
from model_service.storage.versioned.version_numbers import VersionNumbers

# Models and their origins; other collections belong to one instance.
REGISTRY = ("datasets", "training_jobs", "models")
# Collections that are rebuilt, only valid now, or secret to this instance.
_NOT_ARCHIVED = frozenset(
    {
        "uploads",
        "part_uploads",
        "leases",
        "maintenance",
        "workers",
        "inference_servers",
        "schema",
        "model_counters",
        "blob_counters",
        "idempotency_keys",
        "webhook_events",
        "webhook_deliveries",
        "secrets",
        "revoked_sessions",
    }
)
_NEVER_IN_BOTH = {"models": "deleted_models", "deleted_models": "models"}
# Collection → the kind of its version numbers.
_NUMBERED = {"models": "model", "datasets": "dataset"}
_FIRST = (*REGISTRY, "deleted_models", "export_jobs", "evaluations", "deployments", "package_builds")
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024  # MongoDB's own limit
# Limit of a line: Extended JSON takes up to ten times the space of BSON, for lists of small numbers.
MAX_LINE_BYTES = 12 * MAX_DOCUMENT_BYTES
_READ_BATCH = 500
_LOOKUP_BATCH = 1000
_DUPLICATE_KEY = 11000
_BLOB_BYTES = 12 + 32 + 8
_JSON = json_util.CANONICAL_JSON_OPTIONS.with_options(tz_aware=True)


class UnknownHolder(Exception):
    """A collection that references blobs is missing in ``HOLDERS``: its archive would lack them."""


class BlobsMissing(Exception):
    """Documents hold blobs that are not stored."""


@dataclass
class Inserted:
    documents: list[AnyDocument] = field(default_factory=list)
    existing: int = 0
    conflicts: list[AnyDocument] = field(default_factory=list)


def to_line(document: Fields) -> bytes:
    return json_util.dumps(document, json_options=_JSON).encode() + b"\n"


def from_line(line: bytes) -> AnyDocument:
    """Parse a document. Raises: ValueError: not Extended JSON, or MongoDB cannot store it."""
    try:
        document = json_util.loads(line, json_options=_JSON)
        if not isinstance(document, dict) or "_id" not in document:
            raise ValueError("not a document")
        size = len(encode(document))
    except Exception as exc:  # BSON types raise various errors; deep nesting raises RecursionError
        raise ValueError(str(exc)[:200]) from exc
    if size > MAX_DOCUMENT_BYTES:
        raise ValueError(f"a document of {size:,} bytes")
    return document


def pack_blob(blob: Blob) -> bytes:
    """Return a record for ``unpack_blobs``: 52 bytes, since there may be a million."""
    return blob.id.binary + bytes.fromhex(blob.sha256) + blob.size_bytes.to_bytes(8, "big")


def unpack_blobs(file: IO[bytes]) -> Iterator[Blob]:
    while record := file.read(_BLOB_BYTES):
        yield Blob(ObjectId(record[:12]), record[12:44].hex(), int.from_bytes(record[44:], "big"))


class ArchiveStore:
    def __init__(self, database: Database, numbers: VersionNumbers) -> None:
        self._db = database
        self._numbers = numbers

    def collections(self) -> list[str]:
        """Return the collections of a backup; referenced collections come first."""
        own = {self._db.files.name, self._db.chunks.name}
        there = [
            name
            for name in self._db.collection_names()
            if name not in _NOT_ARCHIVED | own and not name.startswith("system.")
        ]
        return sorted(there, key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))

    def empty(self) -> bool:
        """Return whether there are no documents that a restore could conflict with; ignores audit entries."""
        names = (name for name in self.collections() if name != "audit")
        return all(self._db.collection(name).find_one({}, {"_id": True}) is None for name in names)

    def documents(self, name: str, session: Session) -> Iterator[bytes]:
        """Yield every document of a collection as a line, sorted by ``_id``.

        Raises:
            UnknownHolder.
        """
        found = self._db.collection(name).find({}, sort=[("_id", 1)], batch_size=_READ_BATCH, session=session)
        with found:
            for document in found:
                if name not in HOLDERS and next(references_in(document), None) is not None:
                    raise UnknownHolder(
                        f"{name} {document['_id']} refers to a blob, but HOLDERS does not list it"
                    )
                yield to_line(document)

    def blobs_of(self, collections: Iterable[str], session: Session) -> Iterator[Blob]:
        """Yield every blob that documents of these collections hold.

        Raises:
            BlobsMissing: one is not stored.
        """
        batch: list[HeldBlob] = []
        for held in held_blobs(self._db, session, collections):
            batch.append(held)
            if len(batch) == _LOOKUP_BATCH:
                yield from self._stored(batch, session)
                batch = []
        yield from self._stored(batch, session)

    def _stored(self, batch: Sequence[HeldBlob], session: Session) -> Iterator[Blob]:
        wanted = {"_id": {"$in": [held["_id"] for held in batch]}}
        projection = {"length": True, "metadata.sha256": True}
        found = {file["_id"]: file for file in self._db.files.find(wanted, projection, session=session)}
        for held in batch:
            file = found.get(held["_id"])
            if file is None:
                holder = held["holder"]
                raise BlobsMissing(
                    f"{holder['kind']} {holder['id']} refers to blob {held['_id']}, which does not exist"
                )
            yield Blob(file["_id"], file["metadata"]["sha256"], file["length"])

    def touch(self, blob: Blob) -> None:
        """Restart the sweep's safety window of a blob without references."""
        unheld = {"_id": blob.id, "metadata.unreferenced_at": {"$exists": True}}
        self._db.files.update_one(unheld, [{"$set": {"metadata.unreferenced_at": "$$NOW"}}])

    def blob_by_digest(self, sha256: str) -> Blob | None:
        file = self._db.files.find_one({"metadata.sha256": sha256}, {"length": True})
        return Blob(file["_id"], sha256, file["length"]) if file else None

    def missing_blobs(self, documents: Sequence[AnyDocument]) -> list[str]:
        """Return the digests of referenced blobs that are not stored, or have another length."""
        named = {
            (reference["checksum"].removeprefix("sha256:"), reference.get("size_bytes"))
            for document in documents
            for reference in references_in(document)
        }
        wanted = {"metadata.sha256": {"$in": list({digest for digest, _ in named})}}
        found = self._db.files.find(wanted, {"metadata.sha256": True, "length": True})
        stored = {(file["metadata"]["sha256"], file["length"]) for file in found}
        return sorted(digest for digest, _ in named - stored)

    def taken(self, name: str, documents: Sequence[AnyDocument], keys: Sequence[str]) -> list[AnyDocument]:
        """Return documents whose unique key another document has, and those of ``_elsewhere``."""
        wanted = [{key: document.get(key) for key in keys} for document in documents]
        projection = dict.fromkeys(keys, True)
        there = self._db.collection(name).find({"$or": wanted}, projection)
        owner = {tuple(found.get(key) for key in keys): found["_id"] for found in there}
        elsewhere = self._elsewhere(name, documents)
        return [
            document
            for document in documents
            if _key(document) in elsewhere
            or owner.get(tuple(document.get(key) for key in keys), document["_id"]) != document["_id"]
        ]

    def _elsewhere(
        self, name: str, documents: Sequence[AnyDocument], session: Session | None = None
    ) -> set[bytes]:
        """Return the ids of documents that are in the other collection of models and trash already.

        Includes documents whose version number belongs to another, removed version here.
        """
        found: list[AnyDocument] = []
        if other := _NEVER_IN_BOTH.get(name):
            ids = {"_id": {"$in": [document["_id"] for document in documents]}}
            found += self._db.collection(other).find(ids, {"_id": True}, session=session)
        if kind := _NUMBERED.get(name):
            versions = [cast(FileHolder, document) for document in documents]
            given = self._numbers.given(kind, versions, session)
            return {_key(document) for document in (*found, *given)}
        return {_key(document) for document in found}

    def upgrade(self, name: str, documents: Sequence[AnyDocument], version: int) -> list[AnyDocument]:
        """Return documents of an archive of this schema version in the present form."""
        return upgrade(self._db, name, documents, version)

    def derive(self, version: int) -> None:
        """Fill derived collections that archives of this schema version do not contain."""
        derive(self._db, version)

    def insert(
        self,
        name: str,
        documents: Sequence[AnyDocument],
        note: Callable[[Sequence[AnyDocument], Session], object],
    ) -> Inserted:
        """Insert new documents and count their references, in one transaction with ``note``.

        A document that conflicts with another one is left out and returned as a conflict.

        Raises:
            BlobsMissing: a document holds a blob that is not stored.
        """

        def work(session: Session) -> Inserted:
            ids = [document["_id"] for document in documents]
            there = self._db.collection(name).find({"_id": {"$in": ids}}, {"_id": True}, session=session)
            existing = {_key(document) for document in there}
            elsewhere = self._elsewhere(name, documents, session)
            new = [document for document in documents if _key(document) not in existing | elsewhere]
            if new:
                self._point_at_stored_blobs(new, session)
                self._db.collection(name).insert_many(new, session=session)
                self._count_references(name, [document["_id"] for document in new], session)
                if described := list(descriptions(name, new)):
                    self._db.files.bulk_write(described, session=session)
                note(new, session)
            conflicts = [document for document in documents if _key(document) in elsewhere]
            return Inserted(new, len(existing), conflicts)

        try:
            return self._db.transaction(work)
        except BulkWriteError as exc:
            if not all(error["code"] == _DUPLICATE_KEY for error in exc.details["writeErrors"]):
                raise
            if len(documents) == 1:
                return Inserted(conflicts=list(documents))
        total = Inserted()
        for document in documents:
            one = self.insert(name, [document], note)
            total.documents += one.documents
            total.existing += one.existing
            total.conflicts += one.conflicts
        return total

    def _point_at_stored_blobs(self, documents: Sequence[AnyDocument], session: Session) -> None:
        """Replace blob ids, since the same bytes may have another id here."""
        references = [reference for document in documents for reference in references_in(document)]
        digests = {digest for document in documents for digest in _digests(document)}
        wanted = {"metadata.sha256": {"$in": list(digests)}}
        found = self._db.files.find(wanted, {"metadata.sha256": True}, session=session)
        stored = {file["metadata"]["sha256"]: file["_id"] for file in found}
        for reference in references:
            here = stored.get(reference["checksum"].removeprefix("sha256:"))
            if here is not None:
                reference["file_id"] = here

    def _count_references(self, name: str, ids: Sequence[object], session: Session) -> None:
        held = list(held_blobs(self._db, session, (name,), {"_id": {"$in": list(ids)}}))
        if not held:
            return
        counted = self._db.files.bulk_write(
            [
                UpdateOne(
                    {"_id": blob["_id"]},
                    {
                        "$inc": {"metadata.references": blob["count"]},
                        "$unset": {"metadata.unreferenced_at": ""},
                    },
                )
                for blob in held
            ],
            session=session,
        )
        if counted.matched_count != len(held):
            raise BlobsMissing(
                f"documents of {name} refer to blobs that are neither stored nor in the archive"
            )


def _key(document: Fields) -> bytes:
    """Return the encoded id, since an id may be a document itself and so not hashable."""
    return encode({"_id": document["_id"]})


def _digests(document: Fields) -> Iterator[str]:
    return (reference["checksum"].removeprefix("sha256:") for reference in references_in(document))
