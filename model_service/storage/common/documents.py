"""Types that the documents of several collections share, and the documents of this package's collections.

Each package of ``storage`` has the types of its collections in its module ``documents``, with one factory for
each kind of document that the service creates in several steps. A type contains the fields that readers rely
on; a document may have more. ``NotRequired`` fields are absent until an event (a worker has claimed the job),
or because most documents have no value. A change of a required field needs a migration: see
``storage.migrations``.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NotRequired, TypeVar, cast

from bson import ObjectId, Timestamp
from pydantic import AfterValidator, InstanceOf, SkipValidation
from typing_extensions import TypeAliasType, TypedDict

from model_service.states import JobStatus
from model_service.tracing import TraceContext

StoredId = Annotated[ObjectId, InstanceOf()]
# The id of no document.
NOT_STORED = ObjectId(bytes(12))
# JSON from a client, which the service stores as it is.
JSON = TypeAliasType("JSON", "bool | int | float | str | list[JSON] | dict[str, JSON] | None")
JSONObject = dict[str, Annotated[JSON, SkipValidation]]
# Fields and their values, such as a query in MongoDB's language, a projection or changes.
Fields = Mapping[str, object]
Pipeline = Sequence[Fields]
# A document of any collection, for code that handles all collections alike.
AnyDocument = dict[str, object]

D = TypeVar("D", bound=Fields)


def one_of(states: type[StrEnum]) -> AfterValidator:
    """Return the validator for a stored status."""
    allowed = {state.value for state in states}

    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(sorted(allowed))}")
        return value

    return AfterValidator(check)


def changed(document: D, changes: Fields) -> D:
    """Return a copy of the document with these changes, whose types the caller has checked."""
    return cast(D, {**document, **changes})


def without(document: D, absent: Collection[str]) -> D:
    """Return a copy of the document without these fields, which its type allows to be absent."""
    return cast(D, {field: value for field, value in document.items() if field not in absent})


class BlobReference(TypedDict):
    file_id: StoredId
    size_bytes: int
    checksum: str


class Verdict(TypedDict):
    """The result of a scan, in the form of ``exporters.sources.scan``; ``safe`` is None if it is unknown."""

    verdict: str
    reason: str
    safe: bool | None
    format: str | None
    globals: list[str]
    issues: list[str]
    scanners: JSONObject
    scanned_at: datetime


class StoredFile(BlobReference):
    path: str
    content_type: NotRequired[Annotated[str, SkipValidation]]
    scan: NotRequired[Annotated[Verdict, SkipValidation]]


def new_file(path: str, reference: BlobReference, content_type: str) -> StoredFile:
    """Return the entry of a file in a model version or dataset."""
    return {
        "path": path,
        "file_id": reference["file_id"],
        "size_bytes": reference["size_bytes"],
        "checksum": reference["checksum"],
        "content_type": content_type,
    }


class PrimaryFile(BlobReference):
    path: str
    filename: str
    format: str


def path_of(primary: PrimaryFile) -> str:
    """Return the path of a primary file. Imported documents may lack it."""
    return primary.get("path", primary["filename"])


class Lease(TypedDict):
    worker: str
    token: str
    expires_at: datetime


class JobSource(TypedDict):
    """The model or package that a job reads: one file, or ``files`` with the path of the primary one."""

    filename: str
    size_bytes: int
    checksum: str
    file_id: NotRequired[StoredId]
    files: NotRequired[list[StoredFile]]
    primary: NotRequired[str]
    sample_inputs: NotRequired[BlobReference]


class JobDataset(BlobReference):
    """The data file of a dataset version that a job reads, with the fields that describe its content."""

    role: str
    dataset_id: StoredId
    name: str
    version: str
    filename: str
    format: str
    schema: JSONObject
    task_type: str | None


class JobTeacher(JobSource):
    """The model whose outputs a distillation learns: another version, which the job reads."""

    model_id: StoredId
    name: str
    version: str


class JobInput(TypedDict):
    """The models and data of a job, which holds their blobs until it ends."""

    namespace: str
    source: JobSource
    teacher: NotRequired[JobTeacher]
    datasets: NotRequired[list[JobDataset]]
    training_state: NotRequired[BlobReference]  # after the last finished epoch of its training


class LeasedJob(JobInput):
    """The state of a job that workers run under a lease."""

    _id: str
    trace_id: str  # a UUID: the id of its first request's trace
    traceparent: NotRequired[str]  # of the request that created it
    user_id: str
    status: Annotated[str, one_of(JobStatus)]
    progress_percent: float
    progress_message: str
    attempts: int
    log: list[str]
    log_count: int
    created_at: datetime
    updated_at: datetime
    unread_tries: NotRequired[int]  # not included in attempts
    lease: NotRequired[Lease]
    worker: NotRequired[Annotated[str, SkipValidation]]
    progress_step: NotRequired[Annotated[str, SkipValidation]]
    error_code: NotRequired[str]
    error_message: NotRequired[str]
    started_at: NotRequired[datetime]
    completed_at: NotRequired[datetime]


def new_job(
    user_id: str, at: datetime, *, retry_of: LeasedJob | None = None, trace: TraceContext | None = None
) -> Fields:
    """Return the fields of a pending job's state, with a new id.

    Args:
        retry_of: the first job, whose trace id the new one keeps.
        trace: of the request, which the worker continues.
    """
    trace_id = uuid.uuid4() if trace is None else uuid.UUID(trace.trace_id)
    return {
        "_id": str(uuid.uuid4()),
        "trace_id": str(trace_id) if retry_of is None else retry_of["trace_id"],
        **({} if trace is None else {"traceparent": trace.traceparent}),
        "user_id": user_id,
        "status": JobStatus.PENDING,
        "progress_percent": 0.0,
        "progress_message": "waiting for a worker",
        "attempts": 0,
        "log": [],
        "log_count": 0,
        "created_at": at,
        "updated_at": at,
    }


def whole_file(source: JobSource) -> BlobReference:
    """Return the reference of a source that is one file."""
    return {
        "file_id": source["file_id"],
        "size_bytes": source["size_bytes"],
        "checksum": source["checksum"],
    }


def blobs_of(job: JobInput) -> list[StoredId]:
    """Return the ids of the blobs that a job holds until it ends; a file at two paths occurs twice."""
    state = [job["training_state"]] if "training_state" in job else []
    others = [file["file_id"] for file in (*job.get("datasets", []), *state)]
    teacher = blobs_of_source(job["teacher"]) if "teacher" in job else []
    return [*blobs_of_source(job["source"]), *teacher, *others]


def blobs_of_source(source: JobSource) -> list[StoredId]:
    files: Sequence[BlobReference] = source.get("files") or [whole_file(source)]
    samples = [source["sample_inputs"]] if "sample_inputs" in source else []
    return [file["file_id"] for file in (*files, *samples)]


class Described(TypedDict):
    """Fields that models, datasets and training jobs have in common."""

    name: str
    namespace: str
    description: str | None
    task_type: str | None
    tags: list[str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    revision: int


class FileHolder(Described):
    _id: StoredId
    version: str
    version_order: int
    files: list[StoredFile]
    file_metadata: PrimaryFile | None
    size_bytes: int
    # Only in the results of ``file_entries.find_for_file``; never stored.
    file_count: NotRequired[int]
    path_bytes: NotRequired[int]


class AuditEntry(TypedDict):
    at: datetime
    actor: str
    key_id: str | None
    request_id: str | None
    action: str
    kind: str
    subject_id: str
    name: str | None
    details: dict[str, object]
    _id: NotRequired[StoredId]


class NewEvent(TypedDict):
    """A transition of an object, for webhooks.

    Args:
        type: the kind of object and what happened, one of ``states.EVENT_TYPES``: ``export.failed``.
        object: the kind and id of the object, whose events are delivered in order.
        model: the qualified name of the model that the object belongs to.
        at: the time of the transition.
        data: what receivers get: ids, names, states, the actor, and the path of the API's resource.
    """

    type: str
    object: str
    model: str
    namespace: str
    at: datetime
    data: JSONObject


class Event(NewEvent):
    """A stored event. The order of events of one object is that of its transitions."""

    order: Annotated[Timestamp, InstanceOf()]


class OutboxEvent(Event):
    """An event that was not yet distributed to the webhooks."""

    _id: StoredId


class IdempotencyKey(TypedDict):
    _id: str
    fingerprint: str
    resource_id: object
    created_at: datetime


class Secret(TypedDict):
    _id: str
    value: bytes
    created_at: datetime


class StoredLease(TypedDict):
    _id: str
    token: str
    expires_at: datetime


class Migrating(TypedDict, total=False):
    """The progress of a step; ``after`` is the last migrated id."""

    version: int
    latest: int
    name: str
    collection: str
    done: int
    total: int
    after: object
    at: datetime


class SchemaVersion(TypedDict):
    _id: str
    schema_version: int
    collections: dict[str, int]
    service_version: str
    updated_at: datetime
    migration: Annotated[Migrating, SkipValidation] | None
