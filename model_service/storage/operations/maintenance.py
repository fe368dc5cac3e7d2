"""The results of the last sweep and the last verification, for health reports."""

from typing import cast

from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, now
from model_service.storage.common.documents import Fields
from model_service.storage.operations.documents import MaintenanceRun


class Maintenance:
    def __init__(self, database: Database) -> None:
        self._maintenance = database.maintenance

    def ended(self, task: str, result: Fields) -> None:
        """Record the end of a run, replacing the previous one."""
        run = cast(MaintenanceRun, {"at": now(), **result})
        self._maintenance.replace_one({"_id": task}, run, upsert=True)

    def last(self, task: str) -> MaintenanceRun | None:
        """Return the last run without its ``_id``."""
        return self._maintenance.find_one({"_id": task}, {"_id": False})

    def due(self, task: str, interval_s: float) -> bool:
        """Return whether the task never ran, or ended at least that long ago by the database's clock."""
        recent = {"_id": task, "$expr": {"$gt": ["$at", from_now(-interval_s)]}}
        return self._maintenance.find_one(recent, {"_id": True}) is None
