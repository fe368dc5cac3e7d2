"""Health, and archives of the registry."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from model_service.api.schemas.common import Query
from model_service.services.archive.reader import Conflicts

SERVICE: Literal["model-service"] = "model-service"


class Health(BaseModel):
    status: Literal["healthy", "unhealthy"]
    service: Literal["model-service"] = SERVICE
    version: str
    mongodb_connected: bool
    gridfs_available: bool
    redis_connected: bool
    accepts_writes: bool = Field(description="false while MongoDB's disk has less than DISK_MIN_FREE")
    total_models: int | None
    timestamp: datetime


class Alive(BaseModel):
    status: Literal["alive", "ready", "unavailable"]
    service: Literal["model-service"] = SERVICE


class HealthMetrics(BaseModel):
    """The values are null while MongoDB is unreachable."""

    total_models: int | None
    active_models: int | None
    storage_usage_gb: float | None = Field(description="of 2^30 bytes; equal files count once")


class Worker(BaseModel):
    name: str
    last_seen: datetime
    sandbox: dict[str, str] = Field(
        description="the sandbox of conversions: 'isolated', or 'open' with the reason"
    )


class ModelHost(BaseModel):
    group: str = Field(description="the trust group of its models: a namespace, an owner, or all")
    pid: int | None = Field(description="null while it starts")
    restarts: int
    confined: dict[str, str] = Field(
        description="the sandbox of network, files and system_calls: 'isolated', or 'open' with the reason"
    )


class InferenceServer(BaseModel):
    """One process of the inference server."""

    name: str
    last_seen: datetime
    model_hosts: list[ModelHost]


class DetailedHealth(BaseModel):
    service: Literal["model-service"] = SERVICE
    version: str
    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: datetime
    checks: dict[str, str] = Field(description="'healthy', or the problem")
    metrics: HealthMetrics
    issues: list[str] = Field(description="the checks that are not healthy")
    workers: list[Worker]
    inference_servers: list[InferenceServer]
    last_sweep: dict[str, Any] | None
    last_verify: dict[str, Any] | None


class ImportQuery(Query):
    on_conflict: Conflicts = Field(
        Conflicts.SKIP, description="what to do if a name and version belong to another model here"
    )


class ImportedConflicts(BaseModel):
    count: int
    first: list[str]


class ImportedBlobs(BaseModel):
    stored: int
    existing: int


class ImportResult(BaseModel):
    success: Literal[True] = True
    inserted: dict[str, int] = Field(description="by collection")
    existing: dict[str, int] = Field(description="already existed and were not changed")
    conflicts: ImportedConflicts
    blobs: ImportedBlobs
    bytes_stored: int
