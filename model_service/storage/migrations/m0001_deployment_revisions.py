"""Version 1: a deployment has revisions, and its keys have names.

Before, a deployment served one package, in a field of its own, and had one key.
"""

import uuid
from collections.abc import Sequence

from model_service.states import DeploymentStatus
from model_service.storage.db import Database, Document
from model_service.storage.deployment_documents import DEFAULT_CONFIG, DEFAULT_WEIGHT, new_revision
from model_service.storage.migrations.base import Migration

_KEYS = uuid.UUID("5f1a4b0e-6f0c-4b52-9d1e-0d3a3f6c7c11")


def _upgrade_deployments(database: Database, deployments: Sequence[Document]) -> list[Document]:
    ids = [each["export_job_id"] for each in deployments if "package" in each]
    found = database.export_jobs.find({"_id": {"$in": ids}}, {"export_format": True})
    formats = {job["_id"]: job["export_format"] for job in found}
    return [
        _with_revisions(each, formats.get(each["export_job_id"], "onnx")) if "package" in each else each
        for each in deployments
    ]


def _with_revisions(old: Document, export_format: str) -> Document:
    by, config = old.get("user_id") or "unknown", DEFAULT_CONFIG | (old.get("config") or {})
    member = {
        "name": old["model_version"],
        "export_job_id": old["export_job_id"],
        "model_name": old["model_name"],
        "model_version": old["model_version"],
        "format": export_format,
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
    new = old | {
        "user_id": by,
        "config": config,
        "routing": routing,
        "revision": 1,
        "revisions": [revision],
        "live_revision": 1 if active else None,
        "error_message": old.get("error_message"),
        "error_count": 0,
    }
    return {field: value for field, value in new.items() if field not in ("package", "load_attempts")}


def _upgrade_keys(database: Database, keys: Sequence[Document]) -> list[Document]:
    named = {"name": "default", "expires_at": None, "last_used_at": None}
    # The same id each time: an interrupted step never leaves a key twice.
    return [
        key if "name" in key else named | key | {"_id": str(uuid.uuid5(_KEYS, str(key["_id"])))}
        for key in keys
    ]


MIGRATION = Migration(
    version=1,
    name="revisions of deployments",
    documents={"deployments": _upgrade_deployments, "api_keys": _upgrade_keys},
    obsolete_indexes={"deployments": ["package.file_id_1"]},
)
