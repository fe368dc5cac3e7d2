"""The documents of export jobs, and of the locks of their owners."""

import uuid
from datetime import datetime
from typing import Annotated, NotRequired, cast

from pydantic import SkipValidation
from typing_extensions import TypedDict

from model_service.states import ExportStatus
from model_service.storage.common.documents import (
    JSON,
    BlobReference,
    Fields,
    JSONObject,
    StoredFile,
    StoredId,
    one_of,
)
from model_service.tracing import TraceContext


class ExportSource(TypedDict):
    filename: str
    size_bytes: int
    checksum: str
    file_id: NotRequired[StoredId]
    files: NotRequired[list[StoredFile]]
    primary: NotRequired[str]
    sample_inputs: NotRequired[BlobReference]


class Interface(TypedDict):
    """An input or output of a package, in the form of its metadata.json, which has more fields."""

    name: str


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


class Lease(TypedDict):
    worker: str
    token: str
    expires_at: datetime


class JobRequest(TypedDict):
    """The fields of a job that come from its request."""

    model_id: StoredId
    model_name: str
    namespace: str
    model_version: str
    framework: str | None
    task_type: str | None
    training_job_id: str | None
    export_format: str
    export_config: JSONObject
    processing: JSONObject
    optimization_config: JSONObject | None
    validation_config: JSONObject | None
    source: ExportSource
    version_tag: str | None


class ExportJob(JobRequest):
    _id: str
    trace_id: str  # a UUID: the id of its first request's trace
    traceparent: NotRequired[str]  # of the request that created it
    user_id: str
    version: int
    is_default: bool
    training_version: NotRequired[int]
    is_training_default: NotRequired[bool]
    request_digest: str
    reuse: bool
    callback_token_sha256: str
    status: Annotated[str, one_of(ExportStatus)]
    progress_percent: float
    progress_message: str
    attempts: int
    log: list[str]
    log_count: int
    created_at: datetime
    updated_at: datetime
    unread_tries: NotRequired[int]  # not included in attempts
    lease: NotRequired[Lease]
    package: NotRequired[BlobReference]
    callback: NotRequired[Annotated[CallbackOutcome, SkipValidation]]
    fidelity: NotRequired[Annotated[Fidelity, SkipValidation] | None]
    toolchain: NotRequired[str]
    error_code: NotRequired[str]
    error_message: NotRequired[str]
    started_at: NotRequired[datetime]
    completed_at: NotRequired[datetime]
    inputs: NotRequired[list[Annotated[Interface, SkipValidation]]]
    outputs: NotRequired[list[Annotated[Interface, SkipValidation]]]
    batch: NotRequired[JSONObject | None]
    table: NotRequired[JSONObject | None]
    worker: NotRequired[Annotated[str, SkipValidation]]
    progress_step: NotRequired[Annotated[str, SkipValidation]]
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


def whole_file(source: ExportSource) -> BlobReference:
    """Return the reference of a source that is one file."""
    return {
        "file_id": source["file_id"],
        "size_bytes": source["size_bytes"],
        "checksum": source["checksum"],
    }


def new_export_job(
    request: JobRequest,
    digest: str,
    user_id: str,
    at: datetime,
    *,
    reuse: bool,
    retry_of: ExportJob | None = None,
    trace: TraceContext | None = None,
) -> ExportJob:
    """Return a pending job. Its version and the digest of its callback token are set when it is stored.

    Args:
        retry_of: the first job, whose trace id the new one keeps.
        trace: of the request, which the worker continues.
    """
    trace_id = uuid.uuid4() if trace is None else uuid.UUID(trace.trace_id)
    document: Fields = {
        "_id": str(uuid.uuid4()),
        "trace_id": str(trace_id) if retry_of is None else retry_of["trace_id"],
        **({} if trace is None else {"traceparent": trace.traceparent}),
        "user_id": user_id,
        **request,
        "request_digest": digest,
        "is_default": False,
        "is_training_default": False,
        "status": ExportStatus.PENDING,
        "progress_percent": 0.0,
        "progress_message": "waiting for a worker",
        "attempts": 0,
        "log": [],
        "log_count": 0,
        "created_at": at,
        "updated_at": at,
        **({} if retry_of is None else {"retry_of": retry_of["_id"]}),
        "reuse": reuse,
    }
    return cast(ExportJob, document)
