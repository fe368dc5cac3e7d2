"""The deployment_history collection: the events of a deployment, which outlive it.

{deployment_target_id, event_type, event_data, status_before, status_after, created_at, created_by_user_id}.
"""

from model_service.actor import actor
from model_service.storage.common.db import Database, Document, Session, now
from model_service.storage.common.pages import NEWEST_FIRST, page_of


class DeploymentHistory:
    def __init__(self, database: Database) -> None:
        self._history = database.deployment_history

    def record(
        self,
        deployment_id: str,
        event: str,
        before: str | None,
        after: str | None,
        data: Document,
        session: Session,
        *,
        by: str | None = None,
    ) -> None:
        """Record an event in the transaction that causes it.

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

    def deleted(self, deployment_id: str) -> Document | None:
        """Return {_id, name, model_name, user_id} of a deleted deployment; None: it never existed.

        For a deployment deleted by an older version of the service, only ``_id``.
        """
        query = {"deployment_target_id": deployment_id, "event_type": "deleted"}
        event = self._history.find_one(query, sort=NEWEST_FIRST)
        return None if event is None else event["event_data"] | {"_id": deployment_id}

    def page(
        self, deployment_id: str, event: str | None, skip: int, limit: int
    ) -> tuple[list[Document], int]:
        """Return a page of events, newest first, and their total number."""
        query = {"deployment_target_id": deployment_id} | ({} if event is None else {"event_type": event})
        return page_of(self._history, query, skip, limit, order=NEWEST_FIRST)
