"""Deployments that were stored before there were revisions: one package, in a field of its own.

Each becomes what a deployment of one export is now, in a transaction of its own. Safe to run again, and from
several processes at once. The package is held once, before and after.
"""

import uuid

from model_service.states import DeploymentStatus
from model_service.storage.db import Database, Document, Session
from model_service.storage.deployment_documents import DEFAULT_CONFIG, DEFAULT_WEIGHT, new_revision

_OLD = {"package.file_id": {"$exists": True}}


def migrate_deployments(database: Database) -> int:
    """How many there were to change."""

    def work(session: Session, deployment_id: str) -> bool:
        old = database.deployments.find_one({"_id": deployment_id} | _OLD, session=session)
        if old is None:
            return False
        job = database.export_jobs.find_one({"_id": old["export_job_id"]}, session=session) or {}
        change = {"$set": _new_fields(old, job), "$unset": {"package": "", "load_attempts": ""}}
        database.deployments.update_one({"_id": deployment_id}, change, session=session)
        for key in list(database.api_keys.find({"deployment_id": deployment_id}, session=session)):
            database.api_keys.delete_one({"_id": key["_id"]}, session=session)
            named = {"name": "default", "expires_at": None, "last_used_at": None}
            database.api_keys.insert_one(named | key | {"_id": str(uuid.uuid4())}, session=session)
        return True

    ids = [found["_id"] for found in database.deployments.find(_OLD, {"_id": True})]
    return sum(
        database.transaction(lambda session, each=each: work(session, each))  # type: ignore[misc]
        for each in ids
    )


def _new_fields(old: Document, job: Document) -> Document:
    by, config = old.get("user_id") or "unknown", DEFAULT_CONFIG | (old.get("config") or {})
    member = {
        "name": old["model_version"],
        "export_job_id": old["export_job_id"],
        "model_name": old["model_name"],
        "model_version": old["model_version"],
        "format": job.get("export_format", "onnx"),
        "package": old["package"],
        "weight": DEFAULT_WEIGHT,
        "inputs": None,
    }
    routing = {
        "mode": "split",
        "members": [member],
        "sticky_header": None,
        "shadow": None,
        "rollback": None,
    }
    active = old["status"] == DeploymentStatus.ACTIVE
    live_at = old.get("deployed_at") or old["updated_at"] if active else None
    revision = new_revision(1, routing, config, by, old["created_at"]) | {"live_at": live_at}
    return {
        "user_id": by,
        "config": config,
        "routing": routing,
        "revision": 1,
        "revisions": [revision],
        "live_revision": 1 if active else None,
        "error_message": old.get("error_message"),
        "error_count": 0,
    }
