"""Integrity checks: stored documents against blobs and their reference counts.

Everything is streamed: two cursors sorted by blob id are merged, and nothing is collected in memory.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.collection import Collection
from typing_extensions import TypedDict

from model_service.storage.blobs.blobs import CHUNK_BYTES, Blob, recounted
from model_service.storage.blobs.references import held_blobs
from model_service.storage.common.collections import projected, rows
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import AnyDocument, Fields, StoredId
from model_service.storage.migrations.pages import collection_of, pages
from model_service.storage.operations.document_check import CHECKED, check_document

_PAGE = 500


class _Id(TypedDict):
    _id: StoredId


L = TypeVar("L")
R = TypeVar("R")


@dataclass(frozen=True)
class Holding:
    """A blob with a wrong count, or a held one that is not ``stored``, with one of its holders."""

    blob_id: ObjectId
    counted: int
    held: int
    stored: bool
    holder: str | None


class Integrity:
    def __init__(self, database: Database) -> None:
        self._db = database

    def blobs(self) -> Iterator[Blob]:
        """Yield every blob, a page at a time, since reading them takes longer than a cursor lives."""
        after: Fields = {}
        while True:
            page = list(self._db.files.find(after, _BLOB_FIELDS, sort=[("_id", 1)], limit=_PAGE))
            for file in page:
                yield Blob(file["_id"], file["metadata"]["sha256"], file["length"])
            if len(page) < _PAGE:
                return
            after = {"_id": {"$gt": page[-1]["_id"]}}

    def stored(self, blob_id: ObjectId) -> bool:
        return self._db.files.find_one({"_id": blob_id}, {"_id": True}) is not None

    def wrong_holdings(self) -> Iterator[Holding]:
        """Yield the blobs whose counts and documents disagree, in one snapshot."""
        with self._db.snapshot() as session:
            files = self._db.files.find({}, _COUNT_FIELDS, sort=[("_id", 1)], session=session)
            holdings = ((held["_id"], held) for held in held_blobs(self._db, session))
            for blob_id, file, held in _paired(((file["_id"], file) for file in files), holdings):
                counted = file["metadata"].get("references", 0) if file else 0
                count = held["count"] if held else 0
                if file is None or counted != count:
                    holder = f"{held['holder']['kind']} {held['holder']['id']}" if held else None
                    yield Holding(blob_id, counted, count, file is not None, holder)

    def wrong_documents(self) -> Iterator[str]:
        """Yield an error for each document that does not match its collection's type."""
        for name in CHECKED:
            for document in _all_of(collection_of(self._db, name)):
                try:
                    check_document(name, document)
                except ValueError as exc:
                    yield f"{name} {document['_id']}: {exc}"

    def stray_chunks(self) -> Iterator[ObjectId]:
        """Yield the ids of chunks that belong neither to a blob nor to a recorded upload."""
        with self._db.snapshot() as session:
            distinct: list[Fields] = [
                {"$sort": {"files_id": 1, "n": 1}},  # lets $group seek from id to id in the index
                {"$group": {"_id": "$files_id"}},
                {"$sort": {"_id": 1}},
            ]
            chunks = rows(self._db.chunks.aggregate(distinct, session=session, allowDiskUse=True), _Id)
            known = _merged(self._ids(self._db.files.name, session), self._ids("uploads", session))
            for blob_id, chunk, owner in _paired(((chunk["_id"], True) for chunk in chunks), known):
                if chunk is not None and owner is None:
                    yield blob_id

    def _ids(self, name: str, session: Session) -> Iterator[ObjectId]:
        ids = self._db.collection(name).find({}, {"_id": True}, sort=[("_id", 1)], session=session)
        found = projected(ids, _Id)
        with found:
            yield from (each["_id"] for each in found)

    def correct_count(self, blob_id: ObjectId, difference: int) -> int | None:
        """Correct a count by a difference found in a snapshot. Returns the new count; None: the blob is gone.

        This is correct with concurrent writers, since they change references and count by the same amount.
        """
        after = self._db.files.find_one_and_update(
            {"_id": blob_id}, recounted(difference), return_document=ReturnDocument.AFTER
        )
        return None if after is None else int(after["metadata"]["references"])

    def sample(self, models: int) -> list[str]:
        """Return problems with the files of some random models; fast for any amount of data."""
        wrong = []
        for model in self._db.models.aggregate([{"$sample": {"size": models}}, {"$project": {"files": 1}}]):
            for file in model.get("files", [])[:3]:
                found = self._db.files.find_one({"_id": file["file_id"]}, {"length": True})
                last = max(0, file["size_bytes"] - 1) // CHUNK_BYTES
                end = {"files_id": file["file_id"], "n": last}
                if found is None or found["length"] != file["size_bytes"]:
                    wrong.append(f"model {model['_id']}: its file is not stored")
                elif self._db.chunks.find_one(end, {"_id": True}) is None:
                    wrong.append(f"model {model['_id']}: the end of its file is missing")
        return wrong


def _all_of(collection: Collection[AnyDocument]) -> Iterator[AnyDocument]:
    for page in pages(collection):
        yield from page


_BLOB_FIELDS = {"length": True, "metadata.sha256": True}
_COUNT_FIELDS = {"metadata.references": True}


def _paired(
    left: Iterable[tuple[ObjectId, L]], right: Iterable[tuple[ObjectId, R]]
) -> Iterator[tuple[ObjectId, L | None, R | None]]:
    """Merge two sides that are sorted by id: yields each id with the document of either side, if any."""
    lefts, rights = iter(left), iter(right)
    one, other = next(lefts, None), next(rights, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield one[0], one[1], None
            one = next(lefts, None)
        elif one is None or other[0] < one[0]:
            yield other[0], None, other[1]
            other = next(rights, None)
        else:
            yield one[0], one[1], other[1]
            one, other = next(lefts, None), next(rights, None)


def _merged(left: Iterable[ObjectId], right: Iterable[ObjectId]) -> Iterator[tuple[ObjectId, bool]]:
    for blob_id, _, _ in _paired(((each, True) for each in left), ((each, True) for each in right)):
        yield blob_id, True
