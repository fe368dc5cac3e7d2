"""The documents of evaluations."""

from datetime import datetime
from typing import Annotated, NotRequired, cast

from pydantic import SkipValidation
from typing_extensions import TypedDict

from model_service.storage.common.documents import (
    Fields,
    JobInput,
    JSONObject,
    LeasedJob,
    StoredId,
    new_job,
)
from model_service.tracing import TraceContext


class MetricValue(TypedDict):
    """A metric with its bootstrap interval of 95 %, in the unit of the metric; None: without one."""

    value: float
    interval: list[float] | None


class EvaluationRequest(JobInput):
    """The fields of an evaluation that come from its request.

    ``datasets`` has the one data file. ``source`` is the model's, or the package if there is an export.
    """

    model_id: StoredId
    model_name: str
    model_version: str
    framework: str | None
    task_type: str | None
    export_job_id: str | None
    source_config: JSONObject  # how the model's own files are loaded; empty for a package
    dataset_id: StoredId
    dataset_name: str
    dataset_version: str
    dataset_checksum: str
    source_checksum: str
    metrics: list[str] | None
    samples: int | None
    seed: int


class Evaluation(EvaluationRequest, LeasedJob):
    """``results`` and the fields after it are None until the evaluation is completed."""

    results: dict[str, Annotated[MetricValue, SkipValidation]] | None
    evaluated_samples: int | None
    performance: JSONObject | None
    confusion: NotRequired[Annotated[object, SkipValidation]]
    code_versions: JSONObject | None


def new_evaluation(
    request: EvaluationRequest, user_id: str, at: datetime, trace: TraceContext | None = None
) -> Evaluation:
    """Return a pending evaluation."""
    document: Fields = {
        **new_job(user_id, at, trace=trace),
        **request,
        **dict.fromkeys(("results", "evaluated_samples", "performance", "confusion", "code_versions")),
    }
    return cast(Evaluation, document)
