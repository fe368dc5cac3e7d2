"""The deployment_history collection: the events of a deployment, which outlive it."""

from collections.abc import Iterator
from typing import cast

from model_service.actor import actor
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, NewEvent
from model_service.storage.common.outbox import Outbox
from model_service.storage.common.pages import NEWEST_FIRST, page_of
from model_service.storage.deployments.documents import DeletedDeployment, DeploymentEvent
from model_service.storage.deployments.events import transitions


class DeploymentHistory:
    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._history = database.deployment_history
        self._deployments = database.deployments
        self._outbox = outbox

    def record(
        self,
        deployment_id: str,
        event: str,
        before: str | None,
        after: str | None,
        data: Fields,
        session: Session,
        *,
        by: str | None = None,
    ) -> None:
        """Record an event, for webhooks too, in the transaction that causes it.

        Call it after the change of the deployment.

        Args:
            before, after: the status; None before the deployment's creation or after its deletion.
            data: details; values of None are left out.
            by: the user who made the change; default: the caller.
        """
        self._history.insert_one(
            {
                "deployment_target_id": deployment_id,
                "event_type": event,
                "event_data": {key: value for key, value in data.items() if value is not None},
                "status_before": before,
                "status_after": after,
                "created_at": now(),
                "created_by_user_id": by or actor().name,
            },
            session=session,
        )

        def events() -> Iterator[NewEvent]:
            found = self._deployments.find_one({"_id": deployment_id}, {"revisions": False}, session=session)
            yield from transitions(deployment_id, found or data, event, before, after, by)

        self._outbox.record(events, session)

    def deleted(self, deployment_id: str) -> DeletedDeployment | None:
        """Return a deleted deployment; None: it never existed."""
        query = {"deployment_target_id": deployment_id, "event_type": "deleted"}
        event = self._history.find_one(query, sort=NEWEST_FIRST)
        if event is None:
            return None
        return cast(DeletedDeployment, event["event_data"] | {"_id": deployment_id})

    def page(
        self, deployment_id: str, event: str | None, skip: int, limit: int
    ) -> tuple[list[DeploymentEvent], int]:
        """Return a page of events, newest first, and their total number."""
        query = {"deployment_target_id": deployment_id} | ({} if event is None else {"event_type": event})
        return page_of(self._history, query, skip, limit, order=NEWEST_FIRST)
