"""The schema document: the version of the stored data, and the progress of a running migration.

``schema`` has one document: {_id: "schema", schema_version, collections: {collection: version of the last
step that changed its documents}, service_version, updated_at, migration}. ``migration`` is null, or {version,
latest, name, collection, done, total, after, at} of the running or interrupted step.
"""

from contextlib import suppress
from typing import NamedTuple

from pymongo.errors import DuplicateKeyError

from model_service import __version__
from model_service.storage.common.db import Database, now
from model_service.storage.common.documents import Migrating, SchemaVersion
from model_service.storage.migrations.base import DataTooNew

_ID = "schema"
# Collections that do not show whether an earlier version has stored data here.
_BESIDE = frozenset({"schema", "leases"})


class Progress(NamedTuple):
    """Progress of a migration, with a readable text."""

    version: int
    latest: int
    name: str
    collection: str
    done: int
    total: int

    @classmethod
    def of(cls, running: Migrating) -> "Progress":
        fields = (running["version"], running["latest"], running["name"], running["collection"])
        return cls(*fields, running["done"], running["total"])

    def __str__(self) -> str:
        step = f"migration {self.version} of {self.latest} ({self.name})"
        return f"{step}: {self.collection} {self.done:,} of {self.total:,}" if self.collection else step


class Schema:
    """Reads and writes the schema document. ``collections``: each collection's version at ``latest``."""

    def __init__(self, database: Database, latest: int, collections: dict[str, int]) -> None:
        self._db = database
        self._latest = latest
        self._collections = collections

    def read(self) -> SchemaVersion | None:
        """Return the document. None: the database is new, or older than migrations.

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
        """Return whether the database contains no data."""
        return all(
            self._db.collection(name).find_one({}, {"_id": True}, sort=[("_id", 1)]) is None
            for name in self._db.collection_names()
            if name not in _BESIDE and not name.startswith("system.")
        )

    def reached(self, version: int) -> None:
        """Record that the data has this version now. A higher stored version stays."""
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

    def note(self, progress: Progress, after: object = None) -> None:
        """Record the progress of the running migration, from which an interrupted one continues."""
        fields = progress._asdict() | {"after": after, "at": now()}
        self._db.schema.update_one({"_id": _ID}, {"$set": {"migration": fields}})


def too_new(what: str, version: int, writer: str, latest: int) -> DataTooNew:
    """Return the error for data that ``writer``, a newer version of the service, wrote."""
    return DataTooNew(
        f"{what} has schema version {version}, written by model-service {writer}; this is {__version__}, "
        f"which reads versions up to {latest}. Install model-service {writer} or newer, or restore a backup "
        "that an earlier version made into an empty database."
    )
