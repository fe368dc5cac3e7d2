"""Whether the service can do its work."""

from dataclasses import dataclass

from model_service.jobs.queue import Queue
from model_service.storage.blobs import Blobs
from model_service.storage.db import DATABASE_ERRORS, Database
from model_service.storage.models import Models


@dataclass(frozen=True)
class Health:
    mongodb_connected: bool
    gridfs_available: bool
    redis_connected: bool
    total_models: int | None

    @property
    def healthy(self) -> bool:
        """Redis is not part of it: without it, jobs wait for the reconciler, and nothing is lost."""
        return self.mongodb_connected and self.gridfs_available


class HealthService:
    def __init__(self, database: Database, models: Models, blobs: Blobs, queue: Queue) -> None:
        self._database = database
        self._models = models
        self._blobs = blobs
        self._queue = queue

    def check(self) -> Health:
        redis_connected = self._queue.ping()
        try:
            self._database.ping()
            return Health(
                mongodb_connected=True,
                gridfs_available=self._blobs.readable(),
                redis_connected=redis_connected,
                total_models=self._models.count(),
            )
        except DATABASE_ERRORS:
            return Health(False, False, redis_connected, None)
