"""The deployment_logs collection: log entries of the inference servers, kept for 30 days.

{deployment_id, at, level, event, message, server, details}.
"""

from collections.abc import Sequence

from pymongo import WriteConcern

from model_service.storage.common.db import Database, Document

LEVELS = ("debug", "info", "warning", "error")


class DeploymentLogs:
    def __init__(self, database: Database) -> None:
        self._logs = database.deployment_logs.with_options(write_concern=WriteConcern(w=1))

    def insert(self, entries: Sequence[Document]) -> None:
        if entries:
            self._logs.insert_many(entries, ordered=False)

    def newest(self, deployment_id: str, level: str | None, limit: int) -> list[Document]:
        """Return the newest entries of this severity or higher, newest first; None: of every level."""
        query: Document = {"deployment_id": deployment_id}
        if level is not None:
            query["level"] = {"$in": list(LEVELS[LEVELS.index(level) :])}
        return list(self._logs.find(query, sort=[("at", -1), ("_id", -1)], limit=limit))
