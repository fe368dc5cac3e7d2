"""Version 1: the documents of all builds with the version 0.1.0, in the form of the last of these builds.

Models of the first build have no revision, namespace or search fields. Its export jobs do not record the
user. A deployment of the first builds serves one package, in its own field, with one key. Later builds have
revisions and named keys.
"""

import uuid
from collections.abc import Sequence
from typing import cast

from model_service.actor import namespace_of
from model_service.states import DeploymentStatus
from model_service.storage.common.db import Database
from model_service.storage.common.documents import AnyDocument, BlobReference, Fields, changed
from model_service.storage.deployments.documents import (
    DEFAULT_CONFIG,
    DEFAULT_WEIGHT,
    Deployment,
    Member,
    Routing,
    new_revision,
)
from model_service.storage.exports.documents import ExportJob
from model_service.storage.migrations.base import Migration
from model_service.storage.models.documents import Model
from model_service.storage.models.search import derived_fields

# The user of a document, if the build did not record it.
_UNKNOWN = "unknown"
_KEYS = uuid.UUID("5f1a4b0e-6f0c-4b52-9d1e-0d3a3f6c7c11")


def _upgrade_models(database: Database, models: Sequence[AnyDocument]) -> list[AnyDocument]:
    return [each if "revision" in each else _with_registry_fields(each) for each in models]


def _with_registry_fields(old: AnyDocument) -> AnyDocument:
    model = cast(Model, old)
    primary = model["file_metadata"]
    new: AnyDocument = {"signature": None, "training_job_id": None} | old
    new |= {
        "namespace": namespace_of(model["name"]),
        "revision": 1,
        "size_bytes": sum(file["size_bytes"] for file in model["files"]),
        "file_metadata": primary and {"path": primary["filename"], **primary},
    }
    return {**new, **derived_fields(cast(Model, new))}


def _upgrade_jobs(database: Database, jobs: Sequence[AnyDocument]) -> list[AnyDocument]:
    return [each if "log_count" in each else _with_job_fields(each) for each in jobs]


def _with_job_fields(old: AnyDocument) -> AnyDocument:
    """Add missing fields. An empty digest equals no request's, and an empty sha256 no callback token's."""
    job = cast(ExportJob, old)
    absent: AnyDocument = {
        "user_id": _UNKNOWN,
        "namespace": namespace_of(job["model_name"]),
        "request_digest": "",
        "callback_token_sha256": "",
        "reuse": False,
        "log_count": len(job["log"]),
    }
    return absent | old


def _upgrade_events(database: Database, events: Sequence[AnyDocument]) -> list[AnyDocument]:
    return [{"created_by_user_id": _UNKNOWN} | each for each in events]


def _upgrade_users(database: Database, users: Sequence[AnyDocument]) -> list[AnyDocument]:
    return [{"tier": None} | each for each in users]


def _upgrade_deployments(database: Database, deployments: Sequence[AnyDocument]) -> list[AnyDocument]:
    ids = [each["export_job_id"] for each in deployments if "package" in each]
    fields = ("export_format", "model_name")
    jobs = {job["_id"]: job for job in database.export_jobs.find({"_id": {"$in": ids}}, fields)}
    return [
        _with_revisions(each, jobs.get(str(each["export_job_id"]))) if "package" in each else each
        for each in deployments
    ]


class _OldDeployment(Deployment):
    package: BlobReference


def _with_revisions(document: AnyDocument, job: ExportJob | None) -> AnyDocument:
    old = cast(_OldDeployment, document)
    model_name = old.get("model_name") or (job.get("model_name", _UNKNOWN) if job else _UNKNOWN)
    by = old.get("user_id") or _UNKNOWN
    config = changed(DEFAULT_CONFIG, cast(Fields, old.get("config") or {}))
    member: Member = {
        "name": old["model_version"],
        "export_job_id": old["export_job_id"],
        "model_name": model_name,
        "model_version": old["model_version"],
        "format": job.get("export_format", "onnx") if job else "onnx",
        "package": old["package"],
        "weight": DEFAULT_WEIGHT,
        "inputs": None,
    }
    routing: Routing = {
        "mode": "split",
        "members": [member],
        "sticky_header": None,
        "shadow": None,
        "rollback": None,
    }
    active = old["status"] == DeploymentStatus.ACTIVE
    live_at = old.get("deployed_at") or old["updated_at"] if active else None
    revision = changed(new_revision(1, routing, config, by, old["created_at"]), {"live_at": live_at})
    new: AnyDocument = {"deployed_at": None, "deactivated_at": None, "error_message": None} | document
    new |= {
        "user_id": by,
        "model_name": model_name,
        "namespace": namespace_of(model_name),
        "config": config,
        "routing": routing,
        "revision": 1,
        "revisions": [revision],
        "live_revision": 1 if active else None,
        "error_count": 0,
    }
    return {field: value for field, value in new.items() if field not in ("package", "load_attempts")}


def _upgrade_keys(database: Database, keys: Sequence[AnyDocument]) -> list[AnyDocument]:
    named = {"name": "default", "expires_at": None, "last_used_at": None}
    # The id is deterministic, so that an interrupted step never leaves a key twice.
    return [
        key if "name" in key else named | key | {"_id": str(uuid.uuid5(_KEYS, str(key["_id"])))}
        for key in keys
    ]


MIGRATION = Migration(
    version=1,
    name="documents of version 0.1.0",
    documents={
        "models": _upgrade_models,
        "export_jobs": _upgrade_jobs,
        "deployments": _upgrade_deployments,
        "api_keys": _upgrade_keys,
        "deployment_history": _upgrade_events,
        "users": _upgrade_users,
    },
    obsolete_indexes={"deployments": ["package.file_id_1"]},
)
