"""The indexes of every collection; ``Database.ensure_indexes`` creates missing ones."""

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING, IndexModel

# How long an idempotency key is remembered.
IDEMPOTENCY_KEPT_S = 24 * 3600

# The origins of models. Most models have none, and partial indexes do not contain those.
_ORIGINS: dict[str, dict[str, object]] = {
    "training_job_id": {"training_job_id": {"$gt": ""}},
    "dataset_ids": {"dataset_ids": {"$exists": True}},
}

INDEXES: dict[str, list[IndexModel]] = {
    "models": [
        IndexModel([("name", ASCENDING), ("version_order", DESCENDING)], unique=True),
        IndexModel(
            [("name", ASCENDING), ("aliases", ASCENDING)],
            unique=True,
            partialFilterExpression={"aliases": {"$exists": True}},
        ),
        # One for each order of a list, and one for each filter with the default order of lists.
        *(
            IndexModel([(field, DESCENDING), ("_id", DESCENDING)])
            for field in ("created_at", "updated_at", "download_count", "size_bytes")
        ),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in (
                *("name", "namespace", "algorithm", "framework"),
                *("task_type", "status", "tags", "created_by", "terms"),
            )
        ),
        *(
            IndexModel(
                [(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                partialFilterExpression={field: {"$gt": least}},  # most models have no value
            )
            for field, least in (("aliases", ""), ("parent_model_id", ObjectId("0" * 24)))
        ),
        IndexModel([("metric_order.$**", ASCENDING)]),
        *(
            IndexModel(
                [(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
                partialFilterExpression=partial,
            )
            for field, partial in _ORIGINS.items()
        ),
    ],
    "deleted_models": [
        *(
            IndexModel([(field, ASCENDING)], partialFilterExpression=partial)
            for field, partial in _ORIGINS.items()
        ),
        IndexModel([("deleted_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("namespace", ASCENDING), ("deleted_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("name", ASCENDING), ("version_order", DESCENDING)]),
    ],
    "datasets": [
        IndexModel([("name", ASCENDING), ("version_order", DESCENDING)], unique=True),
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in ("name", "namespace", "purpose", "format", "task_type", "tags", "created_by")
        ),
        IndexModel(
            [("summary.status", ASCENDING), ("_id", ASCENDING)],
            partialFilterExpression={"summary.status": "pending"},
        ),
    ],
    "removed_files": [
        IndexModel(
            [(field, ASCENDING) for field in ("kind", "holder_id")]
            + [("removed_at", DESCENDING), ("_id", DESCENDING)]
        ),
        IndexModel([("removed_at", ASCENDING)]),
    ],
    "version_numbers": [
        IndexModel([("kind", ASCENDING), ("name", ASCENDING), ("version_order", DESCENDING)])
    ],
    "training_jobs": [
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in (
                "name",
                "namespace",
                "status",
                "algorithm",
                "framework",
                "task_type",
                "tags",
                "created_by",
                "datasets.dataset_id",
            )
        ),
    ],
    "age_groups": [
        IndexModel([(field, ASCENDING) for field in ("model_name", "environment", "status", "_id")]),
        IndexModel([("status", ASCENDING), ("_id", ASCENDING)]),
        IndexModel([("exported_as", ASCENDING)]),
    ],
    "integer_ids": [IndexModel([("kind", ASCENDING), ("subject_id", ASCENDING)], unique=True)],
    "idempotency_keys": [IndexModel([("created_at", ASCENDING)], expireAfterSeconds=IDEMPOTENCY_KEPT_S)],
    "export_jobs": [
        IndexModel([("model_id", ASCENDING), ("version", DESCENDING)], unique=True),
        # A source has at most one default export.
        IndexModel([("model_id", ASCENDING)], unique=True, partialFilterExpression={"is_default": True}),
        # The same for a training job, which may have several models.
        IndexModel(
            [("training_job_id", ASCENDING), ("training_version", DESCENDING)],
            unique=True,
            partialFilterExpression={"training_version": {"$gt": 0}},
        ),
        IndexModel(
            [("training_job_id", ASCENDING)],
            unique=True,
            partialFilterExpression={"is_training_default": True},
        ),
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("started_at", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in (
                *("status", "namespace", "model_id", "training_job_id", "export_format"),
                *("version_tag", "is_default", "user_id", "trace_id"),
            )
        ),
        IndexModel(
            [("request_digest", ASCENDING), ("toolchain", ASCENDING), ("created_at", DESCENDING)],
            partialFilterExpression={"status": "completed"},
        ),
    ],
    "evaluations": [
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("started_at", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in (
                *("status", "namespace", "model_id", "model_name", "dataset_id"),
                *("export_job_id", "user_id", "trace_id"),
            )
        ),
        IndexModel(
            [
                *((field, ASCENDING) for field in ("model_id", "dataset_id", "export_job_id")),
                ("completed_at", DESCENDING),
                ("_id", DESCENDING),
            ],
            partialFilterExpression={"status": "completed"},
        ),
    ],
    "deployments": [
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("status", ASCENDING), ("deployment_type", ASCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in (
                *("namespace", "status", "name", "user_id", "model_name", "deployment_type"),
                "routing.members.export_job_id",
            )
        ),
        IndexModel([("routing.shadow.export_job_id", ASCENDING)], sparse=True),
        IndexModel([("delivery.due", ASCENDING)], partialFilterExpression={"delivery.due": True}),
        # Names derived from a display name are unique among themselves; a chosen name may occur repeatedly.
        IndexModel([("name", ASCENDING)], unique=True, partialFilterExpression={"display_name": {"$gt": ""}}),
        IndexModel(
            [("display_name", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)],
            partialFilterExpression={"display_name": {"$gt": ""}},
        ),
    ],
    "package_builds": [
        IndexModel([("status", ASCENDING), ("created_at", ASCENDING)]),
        IndexModel([("started_at", DESCENDING)]),
    ],
    "deployment_history": [
        IndexModel([("deployment_target_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
    ],
    "deployment_logs": [
        IndexModel([("deployment_id", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("at", ASCENDING)], expireAfterSeconds=30 * 86_400),
    ],
    "api_keys": [
        IndexModel([("deployment_id", ASCENDING), ("created_at", DESCENDING)]),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=7 * 86_400),
    ],
    "usage": [
        IndexModel(
            [(field, ASCENDING) for field in ("deployment_id", "hour", "member", "model_version")],
            unique=True,
        )
    ],
    "uploads": [IndexModel([("started_at", ASCENDING)])],
    "part_uploads": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=86_400)],
    "model_counters": [IndexModel([("_id.namespace", ASCENDING)])],
    "blob_counters": [IndexModel([("_id.slot", ASCENDING)])],
    "download_counters": [IndexModel([("_id.namespace", ASCENDING)])],
    "leases": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=3600)],
    "scans": [IndexModel([("leased_until", ASCENDING)])],
    "workers": [IndexModel([("at", ASCENDING)], expireAfterSeconds=600)],
    "inference_servers": [IndexModel([("at", ASCENDING)], expireAfterSeconds=600)],
    "access_keys": [
        IndexModel([("secrets.prefix", ASCENDING)], unique=True),
        IndexModel([("expires_at", ASCENDING)]),
        IndexModel([("owner", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
    ],
    "revoked_sessions": [IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0)],
    "audit": [
        IndexModel([("at", DESCENDING), ("_id", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)])
            for field in ("subject_id", "actor", "name", "kind")
        ),
        # The history of an alias
        IndexModel(
            [("name", ASCENDING), ("details.alias", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)],
            partialFilterExpression={"details.alias": {"$gt": ""}},
        ),
    ],
    "gates": [IndexModel([("name", ASCENDING), ("alias", ASCENDING)])],
    "approvals": [
        IndexModel([("model_id", ASCENDING), ("alias", ASCENDING), ("approved_by", ASCENDING)], unique=True)
    ],
    "webhooks": [
        IndexModel([("created_at", DESCENDING), ("_id", DESCENDING)]),
        *(
            IndexModel([(field, ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)])
            for field in ("owner", "maker")
        ),
        IndexModel([("active", ASCENDING)]),
    ],
    "webhook_events": [IndexModel([("order", ASCENDING)])],
    "webhook_deliveries": [
        *(
            IndexModel([("webhook_id", ASCENDING), *fields], partialFilterExpression={"status": "pending"})
            for fields in ([("order", ASCENDING)], [("next_attempt_at", ASCENDING)])
        ),
        IndexModel([("since", ASCENDING)], partialFilterExpression={"status": "pending"}),
        IndexModel(
            [("status", ASCENDING), ("webhook_id", ASCENDING)],
            partialFilterExpression={"status": "pending"},
        ),
        IndexModel([("webhook_id", ASCENDING), ("created_at", DESCENDING), ("_id", DESCENDING)]),
        IndexModel([("expires_at", ASCENDING)], expireAfterSeconds=0),
    ],
}

# Indexes of the GridFS bucket, whose collection names depend on a setting.
BLOB_INDEXES = [
    IndexModel([("metadata.sha256", ASCENDING)], unique=True),
    IndexModel([("metadata.unreferenced_at", ASCENDING)], sparse=True),
]
# Storage options of the chunks, for ``create_collection``.
UNCOMPRESSED = {"wiredTiger": {"configString": "block_compressor=none"}}
CHUNK_INDEXES = [IndexModel([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)]
