"""How the last sweep and the last verification ended, for the answer about the service's health."""

from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Document, now


class Maintenance:
    def __init__(self, database: Database) -> None:
        self._maintenance = database.maintenance

    def ended(self, task: str, result: Document) -> None:
        """Note the end of a run, instead of the one before."""
        self._maintenance.replace_one({"_id": task}, {"at": now(), **result}, upsert=True)

    def last(self, task: str) -> Document | None:
        """Its last run: ``at``, and what ``ended`` was given."""
        return self._maintenance.find_one({"_id": task}, {"_id": False})

    def due(self, task: str, interval_s: float) -> bool:
        """Whether its last end is that long ago, by the database's clock, or it never ran."""
        recent = {"_id": task, "$expr": {"$gt": ["$at", from_now(-interval_s)]}}
        return self._maintenance.find_one(recent, {"_id": True}) is None
