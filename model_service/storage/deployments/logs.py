"""The deployment_logs collection: log entries of the inference servers, kept for 30 days."""

from collections.abc import Sequence

from pymongo import WriteConcern

from model_service.storage.common.db import Database
from model_service.storage.deployments.documents import DeploymentLogEntry

LEVELS = ("debug", "info", "warning", "error")


class DeploymentLogs:
    def __init__(self, database: Database) -> None:
        self._logs = database.deployment_logs.with_options(write_concern=WriteConcern(w=1))

    def insert(self, entries: Sequence[DeploymentLogEntry]) -> None:
        if entries:
            self._logs.insert_many(entries, ordered=False)

    def newest(self, deployment_id: str, level: str | None, limit: int) -> list[DeploymentLogEntry]:
        """Return the newest entries of this severity or higher, newest first; None: of every level."""
        query: dict[str, object] = {"deployment_id": deployment_id}
        if level is not None:
            query["level"] = {"$in": list(LEVELS[LEVELS.index(level) :])}
        return list(self._logs.find(query, sort=[("at", -1), ("_id", -1)], limit=limit))
