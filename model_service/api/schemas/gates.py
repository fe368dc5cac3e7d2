"""Promotion gates, approvals, and the history of an alias."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, Field

from model_service.api.schemas.aliases import AliasText, Comment
from model_service.api.schemas.common import (
    Answer,
    Body,
    DatasetReference,
    Id,
    QualifiedName,
    Query,
    Text,
)
from model_service.api.schemas.models import ModelPath

Number = Annotated[float, Field(allow_inf_nan=False)]


class GatePath(BaseModel):
    alias: AliasText


class CheckedGatePath(ModelPath):
    alias: AliasText


class NameQuery(Query):
    name: QualifiedName


class ApprovalsQuery(Query):
    alias: AliasText | None = None


class ExportRule(Body):
    format: Annotated[str, Field(max_length=40)] | None = Field(None, description="null: any format")
    validated: bool = Field(False, description="its validation on a dataset must have passed")


class MetricRule(Body):
    dataset_id: DatasetReference
    metric: Text = Field(description="as in the results of evaluations, for example accuracy")
    min: Number | None = Field(None, description="either min or max")
    max: Number | None = None
    of: Literal["model", "export"] = Field(
        "model", description="evaluate the version, or the export that the gate requires"
    )


class Rules(Body):
    verified_export: ExportRule | None = None
    metrics: list[MetricRule] = Field([], max_length=20)
    max_p99_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="of the export, measured by the worker that converted it"
    )
    approvals: int = Field(
        0, ge=0, le=10, description="of distinct users, other than the one who moves the alias"
    )


class StoredMetricRule(BaseModel):
    dataset_id: Id
    dataset: str
    metric: str
    min: float | None
    max: float | None
    of: str


class StoredRules(BaseModel):
    verified_export: ExportRule | None
    metrics: list[StoredMetricRule]
    max_p99_ms: float | None
    approvals: int


class Gate(Answer):
    name: str
    alias: str
    rules: StoredRules
    set_by: str
    created_at: datetime
    updated_at: datetime


class GateList(BaseModel):
    name: str
    gates: list[Gate]


class GateRemoved(BaseModel):
    success: Literal[True] = True
    message: str = "Gate removed"
    name: str
    alias: str


class Condition(BaseModel):
    condition: Literal["verified_export", "validated_export", "metric", "p99", "approvals"]
    passed: bool
    required: str
    found: str = Field(description="what is stored; if it is missing, what to do")


class CheckedGate(BaseModel):
    name: str
    version: str
    model_id: Id
    alias: str
    gated: bool = Field(description="whether the alias has a gate; without one every version passes")
    passed: bool = Field(description="whether the caller may move the alias to the version")
    conditions: list[Condition]


class NewApproval(Body):
    alias: AliasText
    comment: Comment | None = None


class Approval(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    model_id: Id
    name: str
    version: str
    alias: str
    approved_by: str
    comment: str | None = None
    source_checksum: str | None = Field(description="of the files that it holds for")
    created_at: datetime


class ApprovalList(BaseModel):
    approvals: list[Approval]


class ApprovalWithdrawn(BaseModel):
    success: Literal[True] = True
    message: str = "Approval withdrawn"
    alias: str
