"""Targets that report into MongoDB: inference servers and workers record status, logs and events there."""

from model_service.deployers.base import TargetStatus
from model_service.states import DeploymentStatus
from model_service.storage.deployments.documents import DeploymentEvent, DeploymentLogEntry
from model_service.storage.stores import Stores


class Recorded:
    """Reads back what such a target has recorded."""

    def __init__(self, stores: Stores) -> None:
        self.stores = stores

    def status(self, deployment_id: str) -> TargetStatus | None:
        found = self.stores.deployments.get(deployment_id)
        if found is None:
            return None
        return TargetStatus(DeploymentStatus(found["status"]), found["live_revision"], found["error_message"])

    def logs(self, deployment_id: str, level: str | None, limit: int) -> list[DeploymentLogEntry]:
        return self.stores.deployment_logs.newest(deployment_id, level, limit)

    def events(
        self, deployment_id: str, event: str | None, skip: int, limit: int
    ) -> tuple[list[DeploymentEvent], int]:
        return self.stores.deployment_history.page(deployment_id, event, skip, limit)
