"""The collections, with the types of their documents. Their indexes are in ``storage.common.indexes``.

models             one document per model version, unique on (name, version) and on (name, alias)
deleted_models     the trash: the same documents, with deleted_at and deleted_by, until they are purged
    └─ files[].file_id, file_metadata.file_id ──┐
    └─ training_job_id → training_jobs          │
datasets           one document per version,    │     unique on (name, version)
    └─ files[].file_id ─────────────────────────┤
removed_files      the trash of their files, by │     kind and holder_id
    └─ file.file_id ────────────────────────────┤
version_numbers    numbers of removed versions, │     by kind, name and version_order
                   which are never given again  │
training_jobs      the run a model came from    │
    └─ datasets[].dataset_id → datasets         │
age_groups         exports deployed for ages of │     by name and environment
    └─ model_id → models                        │
export_jobs        one conversion and its state │     unique on (model_id, version)
    ├─ model_id → models                        │     one default of a model_id
    ├─ source…file_id, teacher…file_id,         │
    │  datasets[].file_id,                      │
    │  training_state.file_id ──────────────────┤     until it ends
    └─ package.file_id ─────────────────────────┤
evaluations        a model or export on a dataset
    ├─ model_id → models, dataset_id → datasets │
    ├─ export_job_id → export_jobs              │
    └─ source…file_id, datasets[].file_id ──────┤     until it ends
export_quotas      serialises a user's requests │
deployments        where packages are served    │
    ├─ …members[].export_job_id → export_jobs   │
    └─ revisions[]…members[].package.file_id ───┤
    └─ delivery.package.file_id ────────────────┤
package_builds     the build of a deployment's  │     package, by the deployment's id
    └─ source…file_id ──────────────────────────┤     until it ends
deployment_quotas  serialises a user's additions│
deployment_history events of each deployment    │
deployment_logs    log entries of its servers, for 30 days
api_keys           sha256 of each endpoint key → deployments
                                                ▼
BUCKET.files       one document per blob: GridFS's own fields, and metadata
                   {sha256 (unique), references, unreferenced_at}, and the first
                   document that stored it: storage.blobs.descriptions
BUCKET.chunks      its bytes, 2 MiB each; shard key files_id
usage              requests to deployments, by hour, member and version
usage_months       requests to all deployments of an owner, by month
uploads            blob writes in progress, and leftovers of interrupted ones for the sweep
part_uploads       uploads in parts, by the id of their blob: the stored parts; deleted after expires_at
secrets            signing secrets, generated once
users              users, the scrypt hashes of their passwords, their roles
access_keys        API keys of the registry: owner, permissions, sha256 of their secrets
revoked_sessions   sessions that were ended early; deleted at expires_at
gates              conditions of an alias, by NAME@ALIAS
approvals          users who approve a version for an alias; unique on (model_id, alias, approved_by)
webhooks           addresses that receive events
webhook_events     the outbox: transitions that were not yet distributed to webhooks
webhook_deliveries events of a webhook: waiting, delivered, or given up; deleted after expires_at
audit              who changed what, in the transaction of the change
integer_ids        integers for documents whose own ids are none, by kind and subject_id
integer_counters   the last integer of each kind
idempotency_keys   the resource that each request of a client created, for a day
model_counters     the statistics: models, bytes, creations by (namespace, algorithm, status, slot)
blob_counters      blobs and their bytes, by slot
download_counters  downloads by (namespace, slot), in total, by day and by hour
leases             the running sweep and the archives in progress; deleted after expires_at
maintenance        results of the last sweep and the last verification
schema             the schema version of all documents, and the progress of a running migration
scans              models with unscanned files; {scan} of a blob is in its metadata
workers            running workers, what they can convert, and the confinement of their conversions
inference_servers  running serving processes, their model hosts, and the confinement of these
"""

from collections.abc import Mapping
from typing import TypeVar, cast, get_args, get_type_hints

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.command_cursor import CommandCursor
from pymongo.cursor import Cursor

from model_service.storage.access.documents import AccessKey, RevokedSession, User
from model_service.storage.age_groups.documents import AgeGroup, IntegerCounter, IntegerId
from model_service.storage.blobs.documents import Blob, Chunk, PartUpload, RemovedFile, Scan, Upload
from model_service.storage.common.documents import (
    AuditEntry,
    D,
    Fields,
    IdempotencyKey,
    OutboxEvent,
    SchemaVersion,
    Secret,
    StoredLease,
)
from model_service.storage.datasets.documents import Dataset
from model_service.storage.deployments.documents import (
    Deployment,
    DeploymentEvent,
    DeploymentKey,
    DeploymentLogEntry,
    DeploymentQuota,
    PackageBuild,
    Usage,
    UsageMonth,
)
from model_service.storage.evaluations.documents import Evaluation
from model_service.storage.exports.documents import ExportJob, ExportQuota
from model_service.storage.gates.documents import Approval, Gate
from model_service.storage.models.documents import DeletedModel, Model, VersionNumber
from model_service.storage.operations.documents import InferenceServerProcess, MaintenanceRun, WorkerProcess
from model_service.storage.statistics.documents import BlobCounter, DownloadCounter, ModelCounter
from model_service.storage.training.documents import TrainingJob
from model_service.storage.webhooks.documents import Delivery, Webhook


class Collections:
    """Each collection has its attribute's name; ``files`` and ``chunks`` have the bucket's name before it."""

    models: Collection[Model]
    deleted_models: Collection[DeletedModel]
    datasets: Collection[Dataset]
    version_numbers: Collection[VersionNumber]
    removed_files: Collection[RemovedFile]
    training_jobs: Collection[TrainingJob]
    age_groups: Collection[AgeGroup]
    integer_ids: Collection[IntegerId]
    integer_counters: Collection[IntegerCounter]
    export_jobs: Collection[ExportJob]
    evaluations: Collection[Evaluation]
    export_quotas: Collection[ExportQuota]
    deployments: Collection[Deployment]
    package_builds: Collection[PackageBuild]
    deployment_quotas: Collection[DeploymentQuota]
    deployment_history: Collection[DeploymentEvent]
    deployment_logs: Collection[DeploymentLogEntry]
    api_keys: Collection[DeploymentKey]
    usage: Collection[Usage]
    usage_months: Collection[UsageMonth]
    users: Collection[User]
    access_keys: Collection[AccessKey]
    revoked_sessions: Collection[RevokedSession]
    audit: Collection[AuditEntry]
    gates: Collection[Gate]
    approvals: Collection[Approval]
    webhooks: Collection[Webhook]
    webhook_events: Collection[OutboxEvent]
    webhook_deliveries: Collection[Delivery]
    idempotency_keys: Collection[IdempotencyKey]
    files: Collection[Blob]
    chunks: Collection[Chunk]
    uploads: Collection[Upload]
    part_uploads: Collection[PartUpload]
    secrets: Collection[Secret]
    scans: Collection[Scan]
    leases: Collection[StoredLease]
    maintenance: Collection[MaintenanceRun]
    schema: Collection[SchemaVersion]
    model_counters: Collection[ModelCounter]
    blob_counters: Collection[BlobCounter]
    download_counters: Collection[DownloadCounter]
    workers: Collection[WorkerProcess]
    inference_servers: Collection[InferenceServerProcess]


# Each attribute of ``Collections``, and the type of its documents.
DOCUMENT_TYPES: Mapping[str, type[Fields]] = {
    name: get_args(collection)[0] for name, collection in get_type_hints(Collections).items()
}
BUCKET = frozenset({"files", "chunks"})
R = TypeVar("R", bound=Fields)


def rows(found: CommandCursor[D], row: type[R]) -> CommandCursor[R]:
    """Return the results of an aggregation, which have the form of ``row``."""
    return cast("CommandCursor[R]", found)


def projected(found: Cursor[D], row: type[R]) -> Cursor[R]:
    """Return the results of a query that reads only the fields of ``row``."""
    return cast("Cursor[R]", found)


def exists(collection: Collection[D], query: Fields, session: ClientSession | None = None) -> bool:
    return collection.find_one(query, {"_id": True}, session=session) is not None
