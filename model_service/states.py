"""The status enums, and which status may follow which."""

from enum import StrEnum


class ModelStatus(StrEnum):
    ACTIVE = "active"
    DEPRECATED = "deprecated"
    ARCHIVED = "archived"


class ExportStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return not EXPORT_TRANSITIONS[self]


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


# RUNNING → RUNNING is a second try: another worker takes over a job whose lease ran out.
# RUNNING → PENDING is an orderly stop of the worker.
EXPORT_TRANSITIONS: dict[ExportStatus, frozenset[ExportStatus]] = {
    ExportStatus.PENDING: frozenset({ExportStatus.RUNNING, ExportStatus.CANCELLED}),
    ExportStatus.RUNNING: frozenset(
        {
            ExportStatus.PENDING,
            ExportStatus.RUNNING,
            ExportStatus.COMPLETED,
            ExportStatus.FAILED,
            ExportStatus.CANCELLED,
        }
    ),
    ExportStatus.COMPLETED: frozenset(),
    ExportStatus.FAILED: frozenset(),
    ExportStatus.CANCELLED: frozenset(),
}

DEPLOYMENT_TRANSITIONS: dict[DeploymentStatus, frozenset[DeploymentStatus]] = {
    DeploymentStatus.PENDING: frozenset({DeploymentStatus.DEPLOYING, DeploymentStatus.FAILED}),
    DeploymentStatus.DEPLOYING: frozenset({DeploymentStatus.ACTIVE, DeploymentStatus.FAILED}),
    # Never from ACTIVE to FAILED: one server's trouble is not the deployment's.
    DeploymentStatus.ACTIVE: frozenset({DeploymentStatus.INACTIVE}),
    DeploymentStatus.INACTIVE: frozenset({DeploymentStatus.DEPLOYING}),
    DeploymentStatus.FAILED: frozenset({DeploymentStatus.DEPLOYING}),
}
