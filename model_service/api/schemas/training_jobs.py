"""Training jobs."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, Field, computed_field

from model_service.api.schemas.common import (
    Answer,
    Body,
    DatasetReference,
    Id,
    JSONObject,
    Moment,
    Paged,
    Pagination,
    QualifiedName,
    Separated,
    Storable,
    Tags,
    Text,
    UuidText,
)
from model_service.states import DatasetPurpose, TrainingStatus


class JobPath(BaseModel):
    job_id: UuidText


class UsedDataset(Body):
    dataset_id: Annotated[DatasetReference, Field(max_length=300)]
    role: DatasetPurpose = DatasetPurpose.TRAINING


class Code(Body):
    """The source code of the run."""

    repository: str | None = Field(None, max_length=2000, description="the URL of the repository")
    commit: Text | None = None
    path: str | None = Field(None, max_length=1024, description="of the script in it")


class TrainingFields(Body):
    description: str | None = Field(None, max_length=10_000)
    framework: Text | None = None
    task_type: Text | None = None
    status: TrainingStatus = TrainingStatus.PENDING
    hyperparameters: Storable = {}
    metrics: Storable = {}
    config: Storable = {}
    environment: Storable = Field({}, description="versions and hardware that the run depended on")
    datasets: list[UsedDataset] = Field([], max_length=100)
    code: Code | None = None
    tags: Tags = []
    started_at: Moment | None = Field(None, description="RFC 3339; by default when it is first 'running'")
    finished_at: Moment | None = Field(None, description="RFC 3339; by default when its status is final")
    error: str | None = Field(None, max_length=10_000)


class NewTrainingJob(TrainingFields):
    name: QualifiedName
    algorithm: Text | None = None
    created_by: Text | None = None


class TrainingChanges(TrainingFields):
    """Only fields that are sent change; the defaults here are never stored."""

    algorithm: Text | None = None


class TrainingQuery(Paged):
    name: QualifiedName | None = None
    status: TrainingStatus | None = None
    algorithm: Text | None = None
    framework: Text | None = None
    task_type: Text | None = None
    created_by: Text | None = None
    tags: Separated = Field(None, description="comma-separated; at least one must match")
    dataset_id: DatasetReference | None = Field(
        None, max_length=300, description="a dataset's id or reference; in any role"
    )

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "limit"}, exclude_none=True)


class DatasetRole(Answer):
    dataset_id: Id
    role: DatasetPurpose


class TrainingJob(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    namespace: str = Field(description="the part of the name before its slash")
    revision: int = Field(description="the number of changes; part of the ETag")
    description: str | None
    algorithm: str | None
    framework: str | None
    task_type: str | None
    status: TrainingStatus
    hyperparameters: JSONObject
    metrics: JSONObject
    config: JSONObject
    environment: JSONObject
    datasets: list[DatasetRole]
    code: JSONObject | None
    tags: list[str]
    error: str | None
    created_by: str | None
    started_at: datetime | None
    finished_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @computed_field(description="from the start to the finish")
    def duration_s(self) -> float | None:
        if self.started_at is None or self.finished_at is None:
            return None
        return (self.finished_at - self.started_at).total_seconds()


class TrainingPage(BaseModel):
    training_jobs: list[TrainingJob]
    pagination: Pagination
