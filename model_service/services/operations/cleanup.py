"""Bulk deletion of old models."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from model_service.actor import Permission, require
from model_service.states import ModelStatus
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import StoredId
from model_service.storage.stores import Stores


@dataclass(frozen=True)
class Candidate:
    id: StoredId
    name: str
    version: str
    created_at: datetime
    size_bytes: int


class CleanupService:
    def __init__(self, stores: Stores) -> None:
        self._database = stores.database
        self._models = stores.models
        self._trash = stores.trash

    def old(self, status: ModelStatus, days: int) -> Iterator[Candidate]:
        """Return the versions of a status that were created more than ``days`` days ago, oldest first.

        Raises:
            NotPermitted.
        """
        require(Permission.ADMIN)
        for model in self._models.created_before(now() - timedelta(days=days), status):
            size = sum(file["size_bytes"] for file in model["files"])
            yield Candidate(model["_id"], model["name"], model["version"], model["created_at"], size)

    def delete(self, candidate: Candidate, status: ModelStatus, *, purge: bool) -> bool:
        """Move a version to the trash, or remove it with ``purge``. Returns False if its status has changed.

        Raises:
            NotPermitted.
        """
        require(Permission.ADMIN)

        def work(session: Session) -> bool:
            model = self._models.get(candidate.id, session)
            if model is None or model["status"] != status:
                return False
            return self._trash.put(candidate.id, session) is not None

        with self._models.changing(candidate.id):
            deleted = self._database.transaction(work)
        if deleted and purge:
            self._trash.purge(candidate.id)
        return deleted
