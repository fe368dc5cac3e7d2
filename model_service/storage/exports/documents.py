"""The documents of export jobs, and of the locks of their owners."""

from datetime import datetime
from typing import Annotated, NotRequired, cast

from pydantic import SkipValidation
from typing_extensions import TypedDict

from model_service.storage.common.documents import (
    JSON,
    BlobReference,
    Fields,
    JobInput,
    JSONObject,
    LeasedJob,
    StoredId,
    new_job,
)
from model_service.tracing import TraceContext


class Interface(TypedDict):
    """An input or output of a package, in the form of its metadata.json, which has more fields."""

    name: str
    dtype: NotRequired[str]
    shape: NotRequired[list[int | str]]


class Fidelity(TypedDict):
    """The report of the comparison with the source, in the form of metadata.json, which has more fields."""

    verdict: str
    reason: NotRequired[str | None]
    outputs: NotRequired[Annotated[JSON, SkipValidation]]
    cases: NotRequired[Annotated[JSON, SkipValidation]]


class CallbackOutcome(TypedDict):
    """How a conversion outside the service ended."""

    status: str
    error_code: NotRequired[str]
    error_message: NotRequired[str]


class JobRequest(JobInput):
    """The fields of a job that come from its request."""

    model_id: StoredId
    model_name: str
    model_version: str
    framework: str | None
    task_type: str | None
    training_job_id: str | None
    export_format: str
    export_config: JSONObject
    processing: JSONObject
    optimization_config: JSONObject | None
    validation_config: JSONObject | None
    version_tag: str | None


class ExportJob(JobRequest, LeasedJob):
    version: int
    is_default: bool
    training_version: NotRequired[int]
    is_training_default: NotRequired[bool]
    request_digest: str
    reuse: bool
    hardware: NotRequired[str | None]
    callback_token_sha256: str
    package: NotRequired[BlobReference]
    callback: NotRequired[Annotated[CallbackOutcome, SkipValidation]]
    fidelity: NotRequired[Annotated[Fidelity, SkipValidation] | None]
    toolchain: NotRequired[str]
    inputs: NotRequired[list[Annotated[Interface, SkipValidation]]]
    outputs: NotRequired[list[Annotated[Interface, SkipValidation]]]
    batch: NotRequired[JSONObject | None]
    table: NotRequired[JSONObject | None]
    retry_of: NotRequired[Annotated[str, SkipValidation]]
    reused_from: NotRequired[Annotated[str, SkipValidation]]
    exported_model_path: NotRequired[Annotated[str, SkipValidation]]
    model_size_bytes: NotRequired[Annotated[int, SkipValidation]]
    optimization_stats: NotRequired[Annotated[JSON, SkipValidation]]
    validation_metrics: NotRequired[Annotated[JSON, SkipValidation]]
    performance: NotRequired[Annotated[JSON, SkipValidation]]
    environment: NotRequired[Annotated[JSON, SkipValidation]]


class ExportQuota(TypedDict):
    """Serialises a user's requests."""

    _id: str
    asked: int


def new_export_job(
    request: JobRequest,
    digest: str,
    user_id: str,
    at: datetime,
    *,
    reuse: bool,
    hardware: str | None = None,
    retry_of: ExportJob | None = None,
    trace: TraceContext | None = None,
) -> ExportJob:
    """Return a pending job. Its version and the digest of its callback token are set when it is stored.

    Args:
        hardware: the label of the workers that may run it; None: all.
    """
    document: Fields = {
        **new_job(user_id, at, retry_of=retry_of, trace=trace),
        **request,
        "request_digest": digest,
        "is_default": False,
        "is_training_default": False,
        **({} if retry_of is None else {"retry_of": retry_of["_id"]}),
        "reuse": reuse,
        **({} if hardware is None else _for_hardware(hardware)),
    }
    return cast(ExportJob, document)


def _for_hardware(label: str) -> Fields:
    return {"hardware": label, "progress_message": f"waiting for a worker on {label}"}
