"""Datasets and their files."""

from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.common import (
    Answer,
    Body,
    DatasetReference,
    Id,
    JSONObject,
    ObjectIdText,
    Paged,
    Pagination,
    QualifiedName,
    Query,
    Separated,
    Storable,
    Tags,
    Text,
    VersionText,
)
from model_service.api.schemas.files import PathText, StoredFile
from model_service.api.schemas.models import FileMetadata
from model_service.states import DatasetFormat, DatasetPurpose, InspectionStatus, TrainingStatus


class DatasetPath(BaseModel):
    dataset_id: DatasetReference = Field(
        description="an id, or datasets:/NAME/VERSION, datasets:/NAME/latest"
    )


class DatasetFilePath(DatasetPath):
    path: PathText = Field(description="in its version: relative, up to 1,024 characters")


class DeletedDatasetFilePath(DatasetPath):
    file_id: ObjectIdText = Field(description="the id in the list of deleted files")


class DatasetFields(Body):
    description: str | None = Field(None, max_length=10_000)
    purpose: DatasetPurpose | None = Field(
        None, description="the purpose; a training job may use the dataset in another role"
    )
    format: DatasetFormat | None = None
    task_type: Text | None = None
    num_samples: int | None = Field(None, ge=0, lt=2**63)
    dataset_schema: Storable = Field({}, alias="schema", description="the inputs and labels")
    statistics: Storable = Field({}, description="for example means, or the frequency of each label")
    source: str | None = Field(None, max_length=2000, description="the origin of the data")
    license: Text | None = None
    tags: Tags = []


class NewDataset(DatasetFields):
    name: QualifiedName
    version: VersionText | None = Field(
        None, max_length=20, description="for example 'v1.0'; by default the next minor version"
    )
    created_by: Text | None = None


class DatasetChanges(DatasetFields):
    """Only fields that are sent change; the defaults here are never stored."""


class DatasetQuery(Paged):
    name: QualifiedName | None = None
    purpose: DatasetPurpose | None = None
    format: DatasetFormat | None = None
    task_type: Text | None = None
    created_by: Text | None = None
    tags: Separated = Field(None, description="comma-separated; at least one must match")

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "limit"}, exclude_none=True)


class DatasetSummary(Answer):
    status: InspectionStatus
    checksum: str = Field(description="of the inspected file")
    error: str | None = Field(None, description="why the file cannot be loaded")
    format: DatasetFormat | None = None
    task: str | None = Field(None, description="of the data; an evaluation also considers the model's")
    num_samples: int | None = None
    inputs: list[JSONObject] | None = Field(None, description="the arrays, with name, dtype and shape")
    label: JSONObject | None = None
    classes: list[str] | None = None
    class_counts: JSONObject | None = Field(None, description="class → the number of its rows")
    first_rows: list[Any] | None = Field(None, description="the first rows, shortened")
    warnings: list[str] | None = None
    inspected_at: datetime | None = None


class Dataset(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    namespace: str = Field(description="the part of the name before its slash")
    version: str
    revision: int = Field(description="the number of changes; part of the ETag")
    description: str | None
    purpose: DatasetPurpose | None
    format: DatasetFormat | None
    task_type: str | None
    num_samples: int | None
    dataset_schema: JSONObject = Field(alias="schema")
    statistics: JSONObject
    source: str | None
    license: str | None
    tags: list[str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    size_bytes: int = Field(description="of all its files")
    files: list[StoredFile]
    file_metadata: FileMetadata | None
    summary: DatasetSummary | None = Field(
        None, description="what a worker found in the data file; null without a file in a known format"
    )


class DatasetPage(BaseModel):
    datasets: list[Dataset]
    pagination: Pagination


class UsageQuery(Query):
    limit: int = Field(100, ge=1, le=200, description="the maximum per kind; the newest are returned")


class UsingJob(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    status: TrainingStatus
    roles: list[DatasetPurpose]
    created_at: datetime


class UsingModel(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    version: str
    status: str
    training_job_id: str | None = None
    created_at: datetime


class DatasetUsage(BaseModel):
    dataset_id: Id
    name: str
    version: str
    training_jobs: list[UsingJob]
    models: list[UsingModel]
    truncated: bool = Field(description="whether there are more, older entries")


class DatasetUploaded(BaseModel):
    success: Literal[True] = True
    message: str = "Dataset file stored"
    dataset_id: Id
    file_metadata: FileMetadata
    unchanged: bool = Field(False, description="whether the same bytes were already stored")


class DatasetInfo(BaseModel):
    dataset_id: Id
    name: str
    version: str
    file_metadata: FileMetadata
    download_url: str


class DatasetFiles(BaseModel):
    dataset_id: Id
    files: list[StoredFile]
    size_bytes: int


class DatasetFileStored(BaseModel):
    success: Literal[True] = True
    message: str = "File stored"
    dataset_id: Id
    revision: int
    file: StoredFile
    unchanged: bool = Field(False, description="whether the same bytes were already stored")
