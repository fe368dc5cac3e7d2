"""Evaluations."""

from datetime import datetime
from typing import Any

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.common import (
    Answer,
    Body,
    DatasetReference,
    Id,
    JSONObject,
    ModelReference,
    Paged,
    Pagination,
    Storable,
    UuidText,
)
from model_service.states import EvaluationStatus

# Metrics in one request. Their names depend on the task: ``exporters.metrics`` has the list.
_MOST_METRICS = 20


class EvaluationPath(BaseModel):
    evaluation_id: UuidText


class NewEvaluation(Body):
    model_id: ModelReference | None = Field(None, description="the version to evaluate: an id or a reference")
    export_job_id: UuidText | None = Field(None, description="or a completed export")
    dataset_id: DatasetReference
    metrics: list[str] | None = Field(
        None, min_length=1, max_length=_MOST_METRICS, description="by default all of the task"
    )
    samples: int | None = Field(
        None, ge=1, lt=2**31, description="the number of rows, drawn with the seed; by default all"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the drawn rows and of the intervals")
    source_config: Storable = Field(
        {},
        description="how a version's own files are loaded: inputs, architecture, classes, preprocessing, "
        "postprocessing, as in export_config",
    )


class EvaluationQuery(Paged):
    model_id: ModelReference | None = Field(None, max_length=300, description="an id or a reference")
    dataset_id: DatasetReference | None = Field(None, max_length=300, description="an id or a reference")
    export_job_id: UuidText | None = None
    status: EvaluationStatus | None = None
    user_id: str | None = Field(None, max_length=128, description="the user who requested it")
    trace_id: str | None = Field(None, max_length=64)

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "limit"})


class MetricValue(Answer):
    value: float
    interval: list[float] | None = Field(None, description="the bootstrap interval of 95 %")


class Evaluation(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    trace_id: str
    user_id: str
    model_id: Id
    model_name: str
    model_version: str
    export_job_id: str | None
    dataset_id: Id
    dataset_name: str
    dataset_version: str
    dataset_checksum: str = Field(description="of the data file")
    source_checksum: str = Field(description="of the model's files, or of the package")
    source_config: JSONObject
    metrics: list[str] | None = Field(description="as requested; null: all of the task")
    samples: int | None = Field(description="as requested; null: all rows")
    seed: int
    status: EvaluationStatus
    progress_percent: float
    progress_message: str
    progress_step: str | None = None
    attempts: int
    worker: str | None = None
    results: dict[str, MetricValue] | None = Field(description="by metric")
    evaluated_samples: int | None = Field(description="the number of rows that were evaluated")
    performance: JSONObject | None = Field(description="latency, throughput and memory on the worker")
    confusion: Any = Field(None, description="of a classifier: label by predicted class; not in lists")
    code_versions: JSONObject | None = Field(description="of the libraries that ran the model")
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime
    error_code: str | None = None
    error_message: str | None = None
    log: list[str] = []


class EvaluationPage(BaseModel):
    evaluations: list[Evaluation]
    pagination: Pagination
