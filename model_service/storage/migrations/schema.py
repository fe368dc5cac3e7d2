"""The schema document: which version the stored data has, and how far a running migration is.

``schema`` has one document: {_id: "schema", schema_version, collections: {collection: version of the last
step that changed its documents}, service_version, updated_at, migration}. ``migration`` is null, or {version,
latest, name, collection, done, total, after, at} of the step that runs or was interrupted.
"""

from contextlib import suppress
from typing import Any, NamedTuple

from pymongo.errors import DuplicateKeyError

from model_service import __version__
from model_service.storage.common.db import Database, Document, now
from model_service.storage.migrations.base import DataTooNew

_ID = "schema"
# Collections that say nothing about whether an earlier version has stored data here.
_BESIDE = frozenset({"schema", "leases"})


class Progress(NamedTuple):
    """How far a migration is, for a person."""

    version: int
    latest: int
    name: str
    collection: str
    done: int
    total: int

    def __str__(self) -> str:
        step = f"migration {self.version} of {self.latest} ({self.name})"
        return f"{step}: {self.collection} {self.done:,} of {self.total:,}" if self.collection else step


class Schema:
    """``collections``: the version of each collection at ``latest``."""

    def __init__(self, database: Database, latest: int, collections: dict[str, int]) -> None:
        self._db = database
        self._latest = latest
        self._collections = collections

    def read(self) -> Document | None:
        """None: a new database, or one of a version before there were migrations.

        Raises:
            DataTooNew.
        """
        found = self._db.schema.find_one({"_id": _ID})
        if found is not None and found["schema_version"] > self._latest:
            raise too_new(
                f"The data in database {self._db.name!r}",
                found["schema_version"],
                found["service_version"],
                self._latest,
            )
        return found

    def is_new_database(self) -> bool:
        """Whether nothing is stored at all."""
        return all(
            self._db.collection(name).find_one({}, {"_id": True}, sort=[("_id", 1)]) is None
            for name in self._db.collection_names()
            if name not in _BESIDE and not name.startswith("system.")
        )

    def reached(self, version: int) -> None:
        """Note that the data has this version now. A higher one that is stored stays."""
        at = {name: min(changed, version) for name, changed in self._collections.items()}
        reached = {
            "schema_version": version,
            "collections": at,
            "service_version": __version__,
            "updated_at": now(),
            "migration": None,
        }
        with suppress(DuplicateKeyError):  # a higher one is stored
            self._db.schema.update_one(
                {"_id": _ID, "schema_version": {"$not": {"$gt": version}}}, {"$set": reached}, upsert=True
            )

    def note(self, progress: Progress, after: Any = None) -> None:
        """Note how far the running migration is; an interrupted one goes on there."""
        fields = progress._asdict() | {"after": after, "at": now()}
        self._db.schema.update_one({"_id": _ID}, {"$set": {"migration": fields}})


def too_new(what: str, version: int, writer: str, latest: int) -> DataTooNew:
    """``writer`` is the version of the service that wrote it."""
    return DataTooNew(
        f"{what} has schema version {version}, written by model-service {writer}; this is {__version__}, "
        f"which reads versions up to {latest}. Install model-service {writer} or newer, or restore a backup "
        "that an earlier version made into an empty database."
    )
