"""Deleted models."""

from datetime import datetime

from pydantic import BaseModel, Field

from model_service.api.schemas.common import Paged, Pagination
from model_service.api.schemas.models import Model


class DeletedModelQuery(Paged):
    pass


class DeletedModel(Model):
    deleted_at: datetime
    deleted_by: str
    purged_after: datetime = Field(description="the time after which it is permanently deleted")


class DeletedModelPage(BaseModel):
    models: list[DeletedModel]
    pagination: Pagination
