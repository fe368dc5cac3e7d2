"""The version_numbers collection: the numbers of removed versions, so that none is given again.

The document in ``models`` or ``datasets`` holds a number while it exists. The transaction that removes the
document records the number here, and the record stays after the version is restored or purged. Only version
``subject_id`` may have the number again.
"""

from collections.abc import Iterable
from typing import TypeVar

from pymongo.collection import Collection

from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, FileHolder, StoredId

H = TypeVar("H", bound=FileHolder)
_ORDER = {"version_order": True}
_HIGHEST_FIRST = [("version_order", -1)]


class VersionNumbers:
    """``kind`` is ``model`` or ``dataset``."""

    def __init__(self, database: Database) -> None:
        self._numbers = database.version_numbers

    def note(self, kind: str, removed: FileHolder, session: Session | None) -> None:
        """Record the number of a version, in the transaction that removes it."""
        key, fields = noted(kind, removed["name"], removed["version_order"], removed["_id"])
        self._numbers.update_one(key, {"$set": fields}, upsert=True, session=session)

    def given(self, kind: str, documents: Iterable[H], session: Session | None = None) -> list[H]:
        """Return the documents whose number belongs to another, removed version of their name."""
        wanted = {_id_of(kind, one["name"], one["version_order"]): one for one in documents}
        found = self._numbers.find({"_id": {"$in": list(wanted)}}, {"subject_id": True}, session=session)
        owned = ((wanted[number["_id"]], number["subject_id"]) for number in found)
        return [document for document, owner in owned if document["_id"] != owner]

    def newest(self, kind: str, alive: Collection[H], name: str, *, below: int | None = None) -> int | None:
        """Return the highest number that a name has in ``alive`` or ever had, below a bound if given."""
        wanted: dict[str, object] = {"name": name}
        if below is not None:
            wanted["version_order"] = {"$lt": below}
        # Removed versions are read second, since they include versions removed in between.
        version = alive.find_one(wanted, _ORDER, sort=_HIGHEST_FIRST)
        number = self._numbers.find_one({"kind": kind, **wanted}, _ORDER, sort=_HIGHEST_FIRST)
        return max(
            (int(found["version_order"]) for found in (version, number) if found is not None), default=None
        )

    def union(self, kind: str, names: Iterable[str]) -> Fields:
        """Return an aggregation stage that adds ``{_id: name, order}`` with the highest removed numbers."""
        highest: list[Fields] = [
            {"$match": {"kind": kind, "name": {"$in": sorted(names)}}},
            {"$sort": {"kind": 1, "name": 1, "version_order": -1}},
            {"$group": {"_id": "$name", "order": {"$first": "$version_order"}}},
        ]
        return {"$unionWith": {"coll": self._numbers.name, "pipeline": highest}}


def _id_of(kind: str, name: str, version_order: int) -> str:
    return f"{kind} {name} {version_order}"


def noted(kind: str, name: str, version_order: int, subject_id: StoredId) -> tuple[Fields, Fields]:
    """Return the filter for a number's record, and the fields of the record."""
    fields = {"kind": kind, "name": name, "version_order": version_order, "subject_id": subject_id}
    return {"_id": _id_of(kind, name, version_order)}, fields | {"at": now()}
