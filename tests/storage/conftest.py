"""Stored deployments, and packages that they hold."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId

from model_service.storage.common.db import Database, Session, now
from model_service.storage.deployments.documents import DEFAULT_CONFIG, new_revision, of_first_member
from model_service.storage.stores import build_stores


def routing_of(*members: tuple[str, ObjectId], **more: Any) -> dict[str, Any]:
    return {
        "mode": "split",
        "members": [
            {
                "name": name,
                "export_job_id": name,
                "model_name": "digits",
                "model_version": name,
                "format": "onnx",
                "package": {"file_id": file_id, "size_bytes": 3, "checksum": "sha256:" + "0" * 64},
                "weight": 100,
                "inputs": None,
            }
            for name, file_id in members
        ],
        "sticky_header": None,
        "shadow": None,
        "rollback": None,
        **more,
    }


class World:
    """Deployments, and packages that they hold."""

    def __init__(self, database: Database) -> None:
        self.database = database
        stores = build_stores(database)
        self.deployments, self._blobs = stores.deployments, stores.blobs
        self.served_deployments, self.serving_reports = stores.served_deployments, stores.serving_reports

    def package(self, content: bytes) -> ObjectId:
        """A stored blob that nobody holds yet."""
        published = self._blobs.publish(
            self._blobs.write(iter([content]), limit_bytes=100), lambda blob, session: None
        )
        self.database.transaction(lambda session: self._blobs.release(published.id, session))
        return published.id

    def deploy(self, routing: dict[str, Any], **fields: Any) -> str:
        deployment_id, at = str(uuid.uuid4()), now()
        document: dict[str, Any] = {
            "_id": deployment_id,
            "user_id": "somebody",
            "name": "digits",
            "description": None,
            "deployment_type": "platform_endpoint",
            "status": "pending",
            "namespace": "",
            **of_first_member(routing),
            "config": DEFAULT_CONFIG,
            "routing": routing,
            "revision": 1,
            "revisions": [new_revision(1, routing, DEFAULT_CONFIG, "somebody", at)],
            "live_revision": None,
            "error_message": None,
            "request_count": 0,
            "error_count": 0,
            "last_request_at": None,
            "total_inference_time_ms": 0.0,
            "created_at": at,
            "updated_at": at,
            "deployed_at": None,
            "deactivated_at": None,
        } | fields
        key = {"_id": str(uuid.uuid4()), "deployment_id": deployment_id, "sha256": "00", "created_at": at}

        def work(session: Session) -> None:
            assert self.deployments.insert(document, key, session)

        self.database.transaction(work)
        return deployment_id

    def revise(self, deployment_id: str, routing: dict[str, Any]) -> int:
        def work(session: Session) -> int:
            before = self.deployments.get(deployment_id, session)
            assert before is not None
            after = self.deployments.revise(before, routing, before["config"], session)
            assert after is not None
            return int(after["revision"])

        return self.database.transaction(work)

    def restore(self, deployment_id: str, number: int) -> None:
        def work(session: Session) -> None:
            before = self.deployments.get(deployment_id, session)
            assert before is not None
            (entry,) = (each for each in before["revisions"] if each["revision"] == number)
            assert self.deployments.restore(before, entry, session, reason=None, data={})

        self.database.transaction(work)

    def read(self, deployment_id: str) -> dict[str, Any]:
        found = self.deployments.get(deployment_id)
        assert found is not None
        return found

    def events(self, deployment_id: str) -> list[tuple[str, str, str]]:
        found = self.database.deployment_history.find(
            {"deployment_target_id": deployment_id}, sort=[("_id", 1)]
        )
        return [(each["event_type"], each["status_before"], each["status_after"]) for each in found]


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


@pytest.fixture
def routing(world: World) -> Callable[..., dict[str, Any]]:
    def make(name: str, **more: Any) -> dict[str, Any]:
        return routing_of((name, world.package(name.encode())), **more)

    return make
