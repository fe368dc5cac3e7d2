"""Models and their files."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.common import (
    Answer,
    Body,
    DatasetReference,
    Id,
    JSONObject,
    ModelReference,
    OptionalId,
    OptionalModelReference,
    OptionalUuid,
    QualifiedName,
    Query,
    Storable,
    Tags,
    Text,
    VersionText,
)
from model_service.services.files.names import OCTET_STREAM
from model_service.states import ModelStatus


class ModelPath(BaseModel):
    model_id: ModelReference


class ModelFields(Body):
    description: str | None = Field(None, max_length=10_000)
    framework: Text | None = None
    task_type: Text | None = None
    hyperparameters: Storable = {}
    metrics: Storable = {}
    dataset_info: Storable = {}
    signature: Storable | None = Field(None, description="the inputs and outputs of the model")
    training_job_id: OptionalUuid | None = Field(None, description="the run that produced the model")
    dataset_ids: list[Annotated[DatasetReference, Field(max_length=300)]] = Field(
        [], max_length=100, description="further datasets that the model was made from"
    )
    tags: Tags = []
    status: ModelStatus = ModelStatus.ACTIVE


class NewModel(ModelFields):
    name: QualifiedName
    algorithm: Text
    version: VersionText | None = Field(
        None, max_length=20, description="for example 'v1.0'; by default the next minor version"
    )
    breaking_changes: bool = Field(False, description="without 'version': the next major version, 'v2.0'")
    parent_model_id: Annotated[OptionalModelReference, Field(max_length=300)] | None = Field(
        None, description="an id or a reference"
    )
    created_by: Text | None = None


class ModelChanges(ModelFields):
    """Only fields that are sent change; the defaults here are never stored."""

    algorithm: Text = ""


class NewVersion(ModelChanges):
    """Changes against the parent version; fields that are not sent are copied from it."""

    version: VersionText | None = Field(
        None, max_length=20, description="for example 'v1.0'; by default the next minor version"
    )
    breaking_changes: bool = Field(False, description="without 'version': the next major version, 'v2.0'")
    created_by: Text | None = None
    copy_files: bool = Field(False, description="also copy the files; no bytes are duplicated")


class DeleteQuery(Query):
    purge: bool = Field(
        False, description="delete permanently, also from the trash; otherwise it can be restored"
    )


class FileMetadata(Answer):
    file_id: Id
    size_bytes: int
    checksum: str
    format: str
    filename: str
    path: str | None = None


class StoredPath(Answer):
    path: str
    file_id: Id
    size_bytes: int
    checksum: str
    content_type: str = OCTET_STREAM
    scan: JSONObject | None = Field(
        None,
        description="whether loading it could run code: `verdict`, `reason`; null until it was scanned",
    )


class ShownEvaluation(Answer):
    evaluation_id: str
    dataset_id: Id
    dataset_name: str
    dataset_version: str
    dataset_checksum: str
    source_checksum: str
    metrics: dict[str, float]
    samples: int | None = None
    completed_at: datetime


class Model(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    namespace: str = Field(description="the part of the name before its slash")
    version: str
    revision: int = Field(description="the number of changes; part of the ETag")
    aliases: list[str] = []
    algorithm: str
    framework: str | None
    task_type: str | None
    description: str | None
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    signature: JSONObject | None = None
    tags: list[str]
    status: ModelStatus
    parent_model_id: OptionalId
    training_job_id: str | None = None
    dataset_ids: list[Id] = []
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    evaluations: list[ShownEvaluation] = Field(
        [], description="the last one of its own files on each dataset version, the last one first"
    )
    download_count: int
    size_bytes: int = Field(0, description="of all its files")
    model_size: str = Field("0 B", description="size_bytes as text, for example '1.0 MB'")
    files: list[StoredPath]
    file_metadata: FileMetadata | None


class Registered(BaseModel):
    success: Literal[True] = True
    message: str = "Model registered successfully"
    model_id: Id
    version: str
    download_url: str
