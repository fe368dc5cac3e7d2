"""The status enums, and their allowed transitions."""

from enum import StrEnum


class ModelStatus(StrEnum):
    ACTIVE = "active"
    DEPRECATED = "deprecated"
    ARCHIVED = "archived"


class UploadState(StrEnum):
    """State of an upload in parts. COMPLETING returns to OPEN if the completion fails."""

    OPEN = "open"
    COMPLETING = "completing"
    COMPLETED = "completed"
    ABORTED = "aborted"


class JobStatus(StrEnum):
    """The status of a worker's job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return not JOB_TRANSITIONS[self]


ExportStatus = JobStatus
EvaluationStatus = JobStatus


class JobErrorCode(StrEnum):
    """Why an export job failed; docs/api.md has the meanings. A callback may report other codes."""

    # Of the conversion, with the codes of ``exporters.errors``.
    EXPORT_FAILED = "export_failed"
    UNSUPPORTED_OPTION = "unsupported_option"
    MISSING_DEPENDENCY = "missing_dependency"
    INVALID_SOURCE = "invalid_source"
    UNSAFE_CHECKPOINT = "unsafe_checkpoint"
    CONVERSION_FAILED = "conversion_failed"
    OPTIMIZATION_FAILED = "optimization_failed"
    GOAL_NOT_REACHED = "goal_not_reached"
    VERIFICATION_FAILED = "verification_failed"
    INVALID_DATASET = "invalid_dataset"
    VALIDATION_FAILED = "validation_failed"
    LIMIT_EXCEEDED = "limit_exceeded"
    DELIVERY_FAILED = "delivery_failed"
    # Of the worker.
    TIMEOUT = "timeout"
    CONVERTER_CRASHED = "converter_crashed"
    SOURCE_DAMAGED = "source_damaged"
    DISK_FULL = "disk_full"
    WORKER_LOST = "worker_lost"
    INTERNAL_ERROR = "internal_error"


class Tier(StrEnum):
    """The plan of a user; ``model_service.tiers`` has its limits."""

    FREE = "free"
    PRO = "pro"
    ENTERPRISE = "enterprise"


class DatasetPurpose(StrEnum):
    TRAINING = "training"
    VALIDATION = "validation"
    TEST = "test"
    CALIBRATION = "calibration"


class DatasetFormat(StrEnum):
    NPZ = "npz"
    CSV = "csv"
    PARQUET = "parquet"
    IMAGES = "images"
    JSONL = "jsonl"
    COCO = "coco"
    YOLO = "yolo"
    OTHER = "other"


class InspectionStatus(StrEnum):
    """The status of the inspection of a dataset's file."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


class TrainingStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return not TRAINING_TRANSITIONS[self]


class DeploymentType(StrEnum):
    DOWNLOAD = "download"
    PLATFORM_ENDPOINT = "platform_endpoint"
    EDGE_PACKAGE = "edge_package"
    CONTAINER = "container"


class DeploymentStatus(StrEnum):
    PENDING = "pending"
    DEPLOYING = "deploying"
    ACTIVE = "active"
    INACTIVE = "inactive"
    FAILED = "failed"


class DeliveryStatus(StrEnum):
    """The status of a webhook's delivery. WITHHELD: the webhook's owner may not read the event's object."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD_LETTERED = "dead_lettered"
    WITHHELD = "withheld"


class AgeGroupStatus(StrEnum):
    ACTIVE = "active"
    REPLACED = "replaced"
    UNDEPLOYED = "undeployed"


# The statuses of deployments that inference servers serve or start.
SERVED = (DeploymentStatus.PENDING, DeploymentStatus.DEPLOYING, DeploymentStatus.ACTIVE)

MODEL_TRANSITIONS: dict[ModelStatus, frozenset[ModelStatus]] = {
    ModelStatus.ACTIVE: frozenset({ModelStatus.DEPRECATED, ModelStatus.ARCHIVED}),
    ModelStatus.DEPRECATED: frozenset({ModelStatus.ACTIVE, ModelStatus.ARCHIVED}),
    ModelStatus.ARCHIVED: frozenset({ModelStatus.ACTIVE}),
}

TRAINING_TRANSITIONS: dict[TrainingStatus, frozenset[TrainingStatus]] = {
    TrainingStatus.PENDING: frozenset(
        {TrainingStatus.RUNNING, TrainingStatus.FAILED, TrainingStatus.CANCELLED}
    ),
    TrainingStatus.RUNNING: frozenset(
        {TrainingStatus.COMPLETED, TrainingStatus.FAILED, TrainingStatus.CANCELLED}
    ),
    TrainingStatus.COMPLETED: frozenset(),
    TrainingStatus.FAILED: frozenset(),
    TrainingStatus.CANCELLED: frozenset(),
}

# RUNNING → RUNNING is another attempt: a worker takes over a job whose lease has expired.
# RUNNING → PENDING is an orderly stop of the worker, or an attempt that is repeated.
JOB_TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.RUNNING, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.PENDING,
            JobStatus.RUNNING,
            JobStatus.COMPLETED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
        }
    ),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}

DEPLOYMENT_TRANSITIONS: dict[DeploymentStatus, frozenset[DeploymentStatus]] = {
    DeploymentStatus.PENDING: frozenset(
        {
            DeploymentStatus.DEPLOYING,
            DeploymentStatus.ACTIVE,
            DeploymentStatus.FAILED,
            DeploymentStatus.INACTIVE,
        }
    ),
    DeploymentStatus.DEPLOYING: frozenset(
        {DeploymentStatus.ACTIVE, DeploymentStatus.FAILED, DeploymentStatus.INACTIVE}
    ),
    # Never from ACTIVE to FAILED: a problem of one server is not one of the deployment.
    DeploymentStatus.ACTIVE: frozenset({DeploymentStatus.INACTIVE}),
    DeploymentStatus.INACTIVE: frozenset({DeploymentStatus.DEPLOYING}),
    DeploymentStatus.FAILED: frozenset({DeploymentStatus.DEPLOYING}),
}

# The types of a webhook's events: the kind of the object, and its new status or what happened to it.
EVENT_TYPES: dict[str, tuple[str, ...]] = {
    "version": ("created", *ModelStatus, "deleted", "restored", "purged"),
    "alias": ("set", "removed"),
    "export": tuple(JobStatus),
    "evaluation": tuple(JobStatus),
    "deployment": (
        *("created", *DeploymentStatus, "deleted"),
        *("updated", "update_failed", "rolled_back", "promoted", "scaled"),
    ),
    "webhook": ("test",),
}
