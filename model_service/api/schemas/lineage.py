"""Lineage and comparison."""

from datetime import datetime
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from model_service.api.schemas.common import Answer, Id, JSONObject, ModelReference, OptionalId, Query
from model_service.api.schemas.models import ModelPath
from model_service.states import ModelStatus, TrainingStatus


class LineageQuery(Query):
    limit: int = Field(100, ge=1, le=1000, description="of descendants")


class LineageModel(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    version: str
    status: ModelStatus
    parent_model_id: OptionalId
    training_job_id: str | None = None
    created_at: datetime
    depth: int = Field(description="the number of generations between them")


class LineageTrainingJob(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    status: TrainingStatus
    created_at: datetime


class LineageDataset(Answer):
    dataset_id: Id
    name: str
    version: str
    role: str | None = Field(
        description="the role in the run; null if the model itself refers to the dataset"
    )


class ModelLineage(BaseModel):
    model: LineageModel
    ancestors: list[LineageModel] = Field(description="nearest first, without deleted ones")
    descendants: list[LineageModel] = Field(description="nearest generation first")
    truncated: bool = Field(
        description="whether there are more descendants: raise limit, or request the lineage of a descendant"
    )
    training_job_id: str | None = Field(description="the run that produced the model")
    training_job: LineageTrainingJob | None
    datasets: list[LineageDataset] = Field(description="the datasets that the model or its run refers to")


class ComparisonPath(ModelPath):
    other_id: ModelReference


class ComparedModel(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    version: str


class Difference(BaseModel):
    added: JSONObject
    removed: JSONObject
    changed: dict[str, dict[str, Any]] = Field(
        description="{key: {from, to}}; numeric metrics also have delta and relative_delta"
    )


class TagDifference(BaseModel):
    added: list[str]
    removed: list[str]


class Comparison(BaseModel):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    from_: ComparedModel = Field(alias="from")
    to: ComparedModel
    fields: Difference = Field(
        description="algorithm, framework, status and others, each compared as a whole"
    )
    metrics: Difference
    hyperparameters: Difference
    tags: TagDifference
    files: Difference = Field(description="the sha256 by path")
    dataset_info: Difference
    evaluations: Difference = Field(
        description="metrics of the last evaluations: NAME/VERSION of the dataset, a dot, and the metric"
    )
    signature: Difference
