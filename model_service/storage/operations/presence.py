"""Heartbeats of running processes. Each reports every few seconds; entries expire after ten minutes."""

from typing import Generic, TypeVar

from pymongo import WriteConcern
from pymongo.collection import Collection

from model_service.storage.common.clock import from_now
from model_service.storage.common.documents import Fields
from model_service.storage.operations.documents import LivingProcess

# A process without a report for this time is considered gone.
ALIVE_S = 20.0


P = TypeVar("P", bound=LivingProcess)


class Presence(Generic[P]):
    def __init__(self, collection: Collection[P]) -> None:
        # Reports repeat soon, so a lost one does no harm.
        self._collection = collection.with_options(write_concern=WriteConcern(w=1))

    def report(self, name: str, state: Fields) -> None:
        """Report that this process runs, with its ``state``."""
        said = {field: {"$literal": value} for field, value in state.items()}
        self._collection.update_one({"_id": name}, [{"$set": {**said, "at": "$$NOW"}}], upsert=True)

    def leave(self, name: str) -> None:
        self._collection.delete_one({"_id": name})

    def alive(self, within_s: float) -> list[P]:
        """Return the processes that reported within that time, by the database's clock."""
        recent = {"$expr": {"$gte": ["$at", from_now(-within_s)]}}
        return list(self._collection.find(recent, sort=[("_id", 1)], limit=1000))
