"""The document types of all collections, and their validation.

The types contain the fields that readers rely on; a document may have more. ``NotRequired`` fields are absent
until an event (a worker has claimed the job), or because most documents have no value. A change of a required
field needs a migration: see ``storage.migrations``.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, NotRequired

from bson import ObjectId
from pydantic import AfterValidator, InstanceOf, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from model_service.states import DeploymentStatus, ExportStatus, ModelStatus, TrainingStatus, UploadState
from model_service.storage.migrations.base import BLOBS

StoredId = Annotated[ObjectId, InstanceOf()]
JSONObject = dict[str, Any]


def _status(states: type[Any]) -> Any:
    allowed = {state.value for state in states}

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(sorted(allowed))}")
        return value

    return AfterValidator(check)


class BlobReference(TypedDict):
    file_id: StoredId
    size_bytes: int
    checksum: str


class StoredFile(BlobReference):
    path: str


class PrimaryFile(BlobReference):
    path: str
    filename: str
    format: str


class Described(TypedDict):
    """Fields that models, datasets and training jobs have in common."""

    name: str
    namespace: str
    description: str | None
    task_type: str | None
    tags: list[str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    revision: int


class FileHolder(Described):
    _id: StoredId
    version: str
    version_order: int
    files: list[StoredFile]
    file_metadata: PrimaryFile | None
    size_bytes: int


class UnlistedModel(FileHolder):
    algorithm: str
    framework: str | None
    status: Annotated[str, _status(ModelStatus)]
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    signature: JSONObject | None
    parent_model_id: StoredId | None
    training_job_id: str | None
    download_count: int
    aliases: NotRequired[list[str]]
    dataset_ids: NotRequired[list[StoredId]]


class Model(UnlistedModel):
    terms: list[str]
    metric_order: JSONObject


class DeletedModel(UnlistedModel):
    deleted_at: datetime
    deleted_by: str
    purging: NotRequired[bool]


class Dataset(FileHolder):
    purpose: str | None
    format: str | None
    num_samples: int | None
    schema: JSONObject
    statistics: JSONObject
    source: str | None
    license: str | None


class UsedDataset(TypedDict):
    dataset_id: StoredId
    role: str


class TrainingJob(Described):
    _id: str
    algorithm: str | None
    framework: str | None
    status: Annotated[str, _status(TrainingStatus)]
    hyperparameters: JSONObject
    metrics: JSONObject
    config: JSONObject
    environment: JSONObject
    datasets: list[UsedDataset]
    code: JSONObject | None
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None


class RemovedFile(TypedDict):
    _id: StoredId
    kind: str
    holder_id: StoredId
    name: str
    version: str
    namespace: str
    file: StoredFile
    was_primary: bool
    format: str | None
    replaced_by: str | None
    removed_at: datetime
    removed_by: str


class VersionNumber(TypedDict):
    _id: str
    kind: str
    name: str
    version_order: int


class ExportSource(TypedDict):
    filename: str
    size_bytes: int
    checksum: str
    file_id: NotRequired[StoredId]
    files: NotRequired[list[StoredFile]]
    sample_inputs: NotRequired[BlobReference]


class Lease(TypedDict):
    worker: str
    token: str
    expires_at: datetime


class ExportJob(TypedDict):
    _id: str
    trace_id: str
    user_id: str
    model_id: StoredId
    model_name: str
    namespace: str
    model_version: str
    framework: str | None
    task_type: str | None
    training_job_id: str | None
    version: int
    version_tag: str | None
    is_default: bool
    training_version: NotRequired[int]
    is_training_default: NotRequired[bool]
    export_format: str
    export_config: JSONObject
    processing: JSONObject
    optimization_config: JSONObject | None
    validation_config: JSONObject | None
    source: ExportSource
    request_digest: str
    reuse: bool
    callback_token_sha256: str
    status: Annotated[str, _status(ExportStatus)]
    progress_percent: float
    progress_message: str
    attempts: int
    log: list[str]
    log_count: int
    created_at: datetime
    updated_at: datetime
    unread_tries: NotRequired[int]  # not included in attempts
    lease: NotRequired[Lease]
    package: NotRequired[BlobReference]
    callback: NotRequired[JSONObject]
    fidelity: NotRequired[JSONObject | None]
    toolchain: NotRequired[str]
    error_code: NotRequired[str]
    error_message: NotRequired[str]
    started_at: NotRequired[datetime]
    completed_at: NotRequired[datetime]
    inputs: NotRequired[list[Any]]
    outputs: NotRequired[list[Any]]
    batch: NotRequired[JSONObject | None]
    table: NotRequired[JSONObject | None]


class Member(TypedDict):
    name: str
    export_job_id: str
    model_name: str
    model_version: str
    format: str
    package: BlobReference
    weight: int
    inputs: JSONObject | None


class Shadow(Member):
    share: float


class Routing(TypedDict):
    mode: str
    members: list[Member]
    sticky_header: str | None
    shadow: Shadow | None
    rollback: JSONObject | None


class DeploymentConfig(TypedDict):
    gpu_enabled: bool
    auto_scaling: JSONObject
    batching: JSONObject
    max_concurrency: int
    timeout_ms: int


class Revision(TypedDict):
    revision: int
    routing: Routing
    config: DeploymentConfig
    created_at: datetime
    created_by: str
    live_at: datetime | None
    rolled_back: bool
    failed: bool


class Deployment(TypedDict):
    _id: str
    user_id: str
    name: str
    display_name: NotRequired[str | None]
    description: str | None
    deployment_type: str
    status: Annotated[str, _status(DeploymentStatus)]
    namespace: str
    export_job_id: str
    model_name: str
    model_version: str
    config: DeploymentConfig
    routing: Routing
    revision: int
    revisions: list[Revision]
    live_revision: int | None
    error_message: str | None
    request_count: int
    error_count: int
    last_request_at: datetime | None
    total_inference_time_ms: float
    created_at: datetime
    updated_at: datetime
    deployed_at: datetime | None
    deactivated_at: datetime | None


class DeploymentEvent(TypedDict):
    deployment_target_id: str
    event_type: str
    event_data: JSONObject
    status_before: str | None
    status_after: str | None
    created_at: datetime
    created_by_user_id: str


class DeploymentLogEntry(TypedDict):
    deployment_id: str
    at: datetime
    level: str
    event: str
    message: str


class DeploymentKey(TypedDict):
    _id: str
    deployment_id: str
    name: str
    prefix: str
    sha256: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class Quota(TypedDict):
    _id: str
    asked: int


class Usage(TypedDict):
    deployment_id: str
    hour: datetime
    member: str
    model_version: str
    requests: int


class UsageMonth(TypedDict):
    _id: JSONObject
    requests: int


class RolesInNamespace(TypedDict):
    namespace: str
    roles: list[str]


class User(TypedDict):
    _id: str
    password: Any
    roles: list[str]
    namespaces: list[RolesInNamespace]
    disabled: bool
    tier: str | None
    epoch: str
    created_at: datetime
    updated_at: datetime


class KeySecret(TypedDict):
    prefix: str
    sha256: str
    expires_at: datetime | None


class AccessKey(TypedDict):
    _id: str
    name: str
    owner: str
    scopes: list[str]
    namespaces: list[str] | None
    secrets: list[KeySecret]
    expires_at: datetime | None
    last_used_at: datetime | None
    created_by: str
    created_at: datetime


class RevokedSession(TypedDict):
    _id: str
    expires_at: datetime


class AuditEntry(TypedDict):
    at: datetime
    actor: str
    key_id: str | None
    request_id: str | None
    action: str
    kind: str
    subject_id: str
    name: str | None
    details: JSONObject


class IdempotencyKey(TypedDict):
    _id: str
    fingerprint: str
    resource_id: Any
    created_at: datetime


class BlobMetadata(TypedDict):
    sha256: str
    references: int
    unreferenced_at: NotRequired[datetime]


class Blob(TypedDict):
    """A file in GridFS."""

    _id: StoredId
    length: int
    chunkSize: int
    uploadDate: datetime
    filename: str
    contentType: NotRequired[str]
    metadata: BlobMetadata


class Upload(TypedDict):
    _id: StoredId
    started_at: datetime


class PartUpload(TypedDict):
    _id: StoredId
    model_id: StoredId
    model_name: str
    new: JSONObject
    consent: NotRequired[JSONObject]
    size_bytes: int
    sha256: str | None
    part_size_bytes: int
    part_count: int
    state: Annotated[str, _status(UploadState)]
    attempts: int
    parts: JSONObject
    writing: JSONObject
    created_at: datetime
    expires_at: datetime


class Secret(TypedDict):
    _id: str
    value: bytes
    created_at: datetime


class Scan(TypedDict):
    _id: StoredId
    asked: int
    attempts: int
    leased_until: datetime


class StoredLease(TypedDict):
    _id: str
    token: str
    expires_at: datetime


class MaintenanceRun(TypedDict):
    _id: str
    at: datetime


class SchemaVersion(TypedDict):
    _id: str
    schema_version: int
    collections: dict[str, int]
    service_version: str
    updated_at: datetime
    migration: JSONObject | None


class Counter(TypedDict):
    _id: Any


class LivingProcess(TypedDict):
    _id: str
    at: datetime


# Every collection except the chunks, whose bytes the verification reads.
DOCUMENT_TYPES: Mapping[str, Any] = {
    "models": Model,
    "deleted_models": DeletedModel,
    "datasets": Dataset,
    "version_numbers": VersionNumber,
    "removed_files": RemovedFile,
    "training_jobs": TrainingJob,
    "export_jobs": ExportJob,
    "export_quotas": Quota,
    "deployments": Deployment,
    "deployment_quotas": Quota,
    "deployment_history": DeploymentEvent,
    "deployment_logs": DeploymentLogEntry,
    "api_keys": DeploymentKey,
    "usage": Usage,
    "usage_months": UsageMonth,
    "users": User,
    "access_keys": AccessKey,
    "revoked_sessions": RevokedSession,
    "audit": AuditEntry,
    "idempotency_keys": IdempotencyKey,
    BLOBS: Blob,
    "uploads": Upload,
    "part_uploads": PartUpload,
    "secrets": Secret,
    "scans": Scan,
    "leases": StoredLease,
    "maintenance": MaintenanceRun,
    "schema": SchemaVersion,
    "model_counters": Counter,
    "blob_counters": Counter,
    "download_counters": Counter,
    "workers": LivingProcess,
    "inference_servers": LivingProcess,
}


def check_document(collection: str, document: Mapping[str, Any]) -> None:
    """Validate a document. Raises: ValueError: one line with the missing or wrong field and the problem."""
    try:
        _adapter(collection).validate_python(document, strict=True)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{field}: {first['msg']}") from None


@cache
def _adapter(collection: str) -> TypeAdapter[Any]:
    return TypeAdapter(DOCUMENT_TYPES[collection])
