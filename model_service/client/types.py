"""Records of models, datasets, training jobs and exports."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model_service.client.records import Record
from model_service.client.transport.plain_json import with_numbers
from model_service.states import ExportStatus

_ENDED = frozenset(status for status in ExportStatus if status.final)


@dataclass(frozen=True, kw_only=True)
class FileMetadata(Record):
    """One stored file; ``checksum`` is ``sha256:`` and 64 hexadecimal digits."""

    file_id: str
    size_bytes: int
    checksum: str
    path: str | None = None
    filename: str | None = None
    format: str | None = None
    content_type: str | None = None
    scan: dict[str, Any] | None = None
    # For an upload: the service had these bytes at this path already.
    unchanged: bool = False


@dataclass(frozen=True, kw_only=True)
class DeletedFile(Record):
    """A replaced or deleted file that can be restored; ``replaced_by`` is its successor's checksum."""

    id: str
    path: str
    size_bytes: int
    checksum: str
    replaced_by: str | None
    was_primary: bool
    removed_at: datetime
    removed_by: str
    purged_after: datetime

    parsers = {  # noqa: RUF012 - as the base declares it
        "removed_at": datetime.fromisoformat,
        "purged_after": datetime.fromisoformat,
    }


def _files(items: list[Any]) -> tuple[FileMetadata, ...]:
    return tuple(FileMetadata.from_json(item) for item in items)


@dataclass(frozen=True, kw_only=True)
class Model(Record):
    """One version of a model. ``file_metadata`` is None until a file is uploaded.

    ``revision`` counts its changes, for ``update_model``.
    """

    id: str
    name: str
    version: str
    algorithm: str
    status: str
    namespace: str = ""
    revision: int | None = None
    aliases: tuple[str, ...] = ()
    framework: str | None = None
    task_type: str | None = None
    description: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    dataset_info: dict[str, Any] | None = None
    signature: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    download_count: int = 0
    size_bytes: int = 0
    parent_model_id: str | None = None
    training_job_id: str | None = None
    dataset_ids: tuple[str, ...] = ()
    evaluations: tuple[dict[str, Any], ...] = ()
    created_by: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    files: tuple[FileMetadata, ...] = ()
    file_metadata: FileMetadata | None = None
    download_url: str | None = None

    parsers = {  # noqa: RUF012 - a ClassVar, declared in Record
        "aliases": tuple,
        "tags": tuple,
        "dataset_ids": tuple,
        "evaluations": tuple,
        "metrics": with_numbers,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
        "files": _files,
        "file_metadata": FileMetadata.from_json,
    }


@dataclass(frozen=True, kw_only=True)
class DeletedModel(Model):
    """A version in the trash, which can be restored until ``purged_after``."""

    deleted_at: datetime
    deleted_by: str
    purged_after: datetime

    parsers = {  # noqa: RUF012
        **Model.parsers,
        "deleted_at": datetime.fromisoformat,
        "purged_after": datetime.fromisoformat,
    }


@dataclass(frozen=True, kw_only=True)
class Alias(Record):
    """A name that moves from version to version; ``reference`` refers to its present version."""

    alias: str
    name: str
    version: str
    model_id: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Dataset(Record):
    """One version of a dataset. ``file_metadata`` is None until a file is uploaded.

    ``summary`` is what a worker found in the file; its ``status`` is pending, ready or failed.
    """

    id: str
    name: str
    version: str
    revision: int
    description: str | None = None
    purpose: str | None = None
    format: str | None = None
    task_type: str | None = None
    num_samples: int | None = None
    schema: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    created_by: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    size_bytes: int = 0
    files: tuple[FileMetadata, ...] = ()
    file_metadata: FileMetadata | None = None
    summary: dict[str, Any] | None = None

    parsers = {  # noqa: RUF012
        "tags": tuple,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
        "files": _files,
        "file_metadata": FileMetadata.from_json,
    }


@dataclass(frozen=True, kw_only=True)
class TrainingJob(Record):
    """The training run of a model. ``datasets`` are ``{"dataset_id", "role"}``."""

    id: str
    name: str
    status: str
    revision: int
    description: str | None = None
    algorithm: str | None = None
    framework: str | None = None
    task_type: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    datasets: tuple[dict[str, str], ...] = ()
    code: dict[str, Any] | None = None
    tags: tuple[str, ...] = ()
    error: str | None = None
    created_by: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_s: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    parsers = {  # noqa: RUF012
        "datasets": tuple,
        "metrics": with_numbers,
        "tags": tuple,
        "started_at": datetime.fromisoformat,
        "finished_at": datetime.fromisoformat,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
    }


@dataclass(frozen=True, kw_only=True)
class ExportJob(Record):
    """An export job.

    ``fidelity`` has the differences between artefact and source, after both have run; ``inputs`` has name,
    dtype and shape of the artefact's inputs; ``model_size_bytes`` is the artefact's size. A job that was
    ``reused_from`` another has that job's package. Only the response to the creation has the
    ``callback_token``.
    """

    id: str
    status: str
    model_id: str | None = None
    export_format: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    version: int | None = None
    version_tag: str | None = None
    is_default: bool = False
    user_id: str | None = None
    trace_id: str | None = None
    training_job_id: str | None = None
    retry_of: str | None = None
    reused_from: str | None = None
    callback_token: str | None = field(default=None, repr=False)
    progress_step: str | None = None
    progress_percent: float = 0
    progress_message: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    fidelity: dict[str, Any] | None = None
    inputs: tuple[dict[str, Any], ...] | None = None
    optimization_stats: dict[str, Any] | None = None
    model_size_bytes: int | None = None
    export_package_size_bytes: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    log: tuple[str, ...] = ()

    parsers = {  # noqa: RUF012
        "created_at": datetime.fromisoformat,
        "started_at": datetime.fromisoformat,
        "completed_at": datetime.fromisoformat,
        "inputs": tuple,
        "log": tuple,
    }

    @property
    def ended(self) -> bool:
        """Return whether it is completed, failed or cancelled, and will not change any more."""
        return self.status in _ENDED


@dataclass(frozen=True, kw_only=True)
class Evaluation(Record):
    """Metrics of a model version, or of its export ``export_job_id``, on a dataset version.

    ``results`` has for each metric its ``value`` and its 95 % ``interval``, once it is completed. ``metrics``
    and ``samples`` are those of the request.
    """

    id: str
    status: str
    model_id: str
    model_name: str
    model_version: str
    dataset_id: str
    dataset_name: str
    dataset_version: str
    dataset_checksum: str
    source_checksum: str
    export_job_id: str | None = None
    metrics: tuple[str, ...] | None = None
    samples: int | None = None
    seed: int = 0
    results: dict[str, Any] | None = None
    evaluated_samples: int | None = None
    performance: dict[str, Any] | None = None
    confusion: Any = None
    code_versions: dict[str, Any] | None = None
    user_id: str | None = None
    trace_id: str | None = None
    progress_step: str | None = None
    progress_percent: float = 0
    progress_message: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    log: tuple[str, ...] = ()

    parsers = {  # noqa: RUF012
        "metrics": tuple,
        "created_at": datetime.fromisoformat,
        "started_at": datetime.fromisoformat,
        "completed_at": datetime.fromisoformat,
        "log": tuple,
    }

    @property
    def ended(self) -> bool:
        """Return whether it is completed, failed or cancelled, and will not change any more."""
        return self.status in _ENDED


@dataclass(frozen=True, kw_only=True)
class FormatCapability(Record):
    """The export of a framework's models to a format: ``supported`` at all, and ``available`` now.

    ``reason``: why it is not available. ``native``: in one step, otherwise through ONNX.
    """

    supported: bool
    available: bool
    native: bool = False
    quality: str | None = None
    limitations: tuple[str, ...] = ()
    preprocessing_embedded: bool = False
    reason: str | None = None
    sources: tuple[str, ...] = ()
    extension: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    parsers = {"sources": tuple, "limitations": tuple}  # noqa: RUF012
