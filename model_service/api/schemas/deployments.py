"""Deployments."""

from datetime import datetime

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.common import (
    Answer,
    Body,
    Id,
    JSONObject,
    Name,
    Paged,
    Pagination,
    Storable,
)
from model_service.states import DeploymentStatus, DeploymentType


class DeploymentPath(BaseModel):
    deployment_id: str


class NewDeployment(Body):
    export_job_id: str
    deployment_type: DeploymentType = DeploymentType.PLATFORM_ENDPOINT
    name: Name
    description: str | None = Field(None, max_length=1000)
    config: Storable = {}


class DeploymentQuery(Paged):
    status: DeploymentStatus | None = None


class Deployment(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    user_id: str | None = None
    export_job_id: str
    deployment_type: DeploymentType
    name: str
    description: str | None
    config: JSONObject
    status: DeploymentStatus
    endpoint_url: str
    model_version: str
    error_message: str | None = None
    request_count: int
    last_request_at: datetime | None
    total_inference_time_ms: float
    created_at: datetime
    deployed_at: datetime | None = None
    deactivated_at: datetime | None = None
    updated_at: datetime


class CreatedDeployment(Deployment):
    api_key: str = Field(description="shown this once; only its hash is kept")


class DeploymentPage(BaseModel):
    deployments: list[Deployment]
    pagination: Pagination
