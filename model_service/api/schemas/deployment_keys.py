"""Keys of endpoints."""

from datetime import datetime

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.common import Answer, Body, Id, Moment, Text, UuidText


class DeploymentKeyPath(BaseModel):
    deployment_id: str
    key_id: UuidText


class NewDeploymentKey(Body):
    name: Text
    expires_at: Moment | None = None


class DeploymentKey(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    deployment_id: str
    name: str
    prefix: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class CreatedDeploymentKey(DeploymentKey):
    key: str = Field(description="shown only in this response; only its hash is stored")


class DeploymentKeyList(BaseModel):
    keys: list[DeploymentKey]
