"""Models and their files."""

from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.common import (
    Answer,
    Body,
    Id,
    JSONObject,
    OptionalId,
    Paged,
    Pagination,
    QualifiedName,
    Storable,
    Tags,
    Text,
)
from model_service.states import ModelStatus


class ModelPath(BaseModel):
    model_id: str


class ModelFields(Body):
    description: str | None = Field(None, max_length=10_000)
    framework: Text | None = None
    task_type: Text | None = None
    hyperparameters: Storable = {}
    metrics: Storable = {}
    dataset_info: Storable = {}
    tags: Tags = []
    status: ModelStatus = ModelStatus.ACTIVE


class NewModel(ModelFields):
    name: QualifiedName
    algorithm: Text
    version: str | None = Field(None, max_length=20, description="'v1.0'; without it the next minor version")
    parent_model_id: str | None = None
    created_by: Text | None = None


class ModelChanges(ModelFields):
    """Only the fields that are sent change: the defaults here are never stored."""

    algorithm: Text = ""


class ModelQuery(Paged):
    name: Text | None = None
    algorithm: Text | None = None
    framework: Text | None = None
    task_type: Text | None = None
    status: ModelStatus | None = None
    created_by: Text | None = None
    tags: str | None = Field(None, max_length=2000, description="comma-separated; any of them matches")
    min_accuracy: float | None = Field(None, description="of metrics.accuracy or metrics.test_accuracy")

    def filters(self) -> dict[str, Any]:
        found = self.model_dump(exclude={"page", "limit", "tags"}, exclude_none=True)
        if tags := [tag.strip() for tag in (self.tags or "").split(",") if tag.strip()]:
            found["tags"] = tags
        return found


class FileMetadata(Answer):
    file_id: Id
    size_bytes: int
    checksum: str
    format: str
    filename: str


class StoredPath(Answer):
    path: str
    file_id: Id
    size_bytes: int
    checksum: str


class Model(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    version: str
    algorithm: str
    framework: str | None
    task_type: str | None
    description: str | None
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    tags: list[str]
    status: ModelStatus
    parent_model_id: OptionalId
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    download_count: int
    files: list[StoredPath]
    file_metadata: FileMetadata | None


class ModelPage(BaseModel):
    models: list[Model]
    pagination: Pagination


class Registered(BaseModel):
    success: Literal[True] = True
    message: str = "Model registered successfully"
    model_id: Id
    version: str
    download_url: str


class Uploaded(BaseModel):
    success: Literal[True] = True
    message: str = "Model file stored"
    model_id: Id
    file_metadata: FileMetadata


class ModelInfo(BaseModel):
    model_id: Id
    name: str
    version: str
    algorithm: str
    file_metadata: FileMetadata
    download_count: int
    download_url: str
