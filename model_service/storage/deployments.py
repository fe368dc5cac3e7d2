"""The deployments, their history and their keys."""

from collections.abc import Iterable
from typing import Any

from pymongo import ReturnDocument, UpdateOne, WriteConcern

from model_service.states import DEPLOYMENT_TRANSITIONS, DeploymentStatus, DeploymentType
from model_service.storage.db import Database, Document, Session, now
from model_service.storage.pages import page_of

SERVED = [DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING, DeploymentStatus.ACTIVE]


class Deployments:
    def __init__(self, database: Database) -> None:
        self._db = database
        self._deployments = database.deployments
        self._usage = database.deployments.with_options(write_concern=WriteConcern(w=1))

    def insert(self, document: Document, key: Document, session: Session) -> None:
        self._deployments.insert_one(document, session=session)
        self._db.api_keys.insert_one(key, session=session)

    def get(self, deployment_id: str) -> Document | None:
        return self._deployments.find_one({"_id": deployment_id})

    def page(self, query: Document, skip: int, limit: int) -> tuple[list[Document], int]:
        return page_of(self._deployments, query, skip, limit)

    def move(self, deployment_id: str, to: DeploymentStatus, **changes: Any) -> Document | None:
        """Change the status by compare-and-set and write it into the history.

        None when the deployment is gone, or in a status that ``to`` may not follow.
        """
        sources = [status for status, targets in DEPLOYMENT_TRANSITIONS.items() if to in targets]

        def work(session: Session) -> Document | None:
            before = self._deployments.find_one_and_update(
                {"_id": deployment_id, "status": {"$in": sources}},
                {"$set": {"status": to, "updated_at": now(), **changes}},
                return_document=ReturnDocument.BEFORE,
                session=session,
            )
            if before is not None:
                event = {DeploymentStatus.ACTIVE: "deployed"}.get(to, str(to))
                self._record(deployment_id, event, before["status"], to, changes, session)
            return before

        return self._db.transaction(work)

    def _record(
        self,
        deployment_id: str,
        event: str,
        before: str | None,
        after: str | None,
        data: Document,
        session: Session,
    ) -> None:
        self._db.deployment_history.insert_one(
            {
                "deployment_target_id": deployment_id,
                "event_type": event,
                "event_data": {key: value for key, value in data.items() if value is not None},
                "status_before": before,
                "status_after": after,
                "created_at": now(),
            },
            session=session,
        )

    def delete(self, deployment_id: str, session: Session) -> Document | None:
        """Remove it with its keys; its history stays."""
        gone = self._deployments.find_one_and_delete({"_id": deployment_id}, session=session)
        if gone is not None:
            self._db.api_keys.delete_many({"deployment_id": deployment_id}, session=session)
            self._record(deployment_id, "deleted", gone["status"], None, {}, session)
        return gone

    def served(self) -> list[Document]:
        """What an inference server is to host, with the hashes of its keys: one query."""
        return list(
            self._deployments.aggregate(
                [
                    {
                        "$match": {
                            "status": {"$in": SERVED},
                            "deployment_type": DeploymentType.PLATFORM_ENDPOINT,
                        }
                    },
                    {
                        "$lookup": {
                            "from": self._db.api_keys.name,
                            "localField": "_id",
                            "foreignField": "deployment_id",
                            "as": "keys",
                        }
                    },
                ]
            )
        )

    def set_load_attempts(self, deployment_id: str, server: str, attempts: int) -> None:
        """How many loads an inference server began and did not end. ``server`` is a name without dots.

        It outlives the server, so that a package that kills it is not tried for ever.
        """
        field = f"load_attempts.{server}"
        change = {"$set": {field: attempts}} if attempts else {"$unset": {field: ""}}
        self._deployments.update_one({"_id": deployment_id}, change)

    def add_usage(self, usage: Iterable[tuple[str, int, float]]) -> None:
        """Add (deployment id, requests, milliseconds of inference), all in one write."""
        writes = [
            UpdateOne(
                {"_id": deployment_id},
                {
                    "$inc": {"request_count": requests, "total_inference_time_ms": milliseconds},
                    "$set": {"last_request_at": now()},
                },
            )
            for deployment_id, requests, milliseconds in usage
        ]
        if writes:
            self._usage.bulk_write(writes, ordered=False)
