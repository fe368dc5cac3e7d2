"""Export jobs."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, Field, model_validator

from model_service.api.schemas.common import (
    Answer,
    Body,
    Id,
    JSONObject,
    ModelReference,
    OptionalId,
    Paged,
    Pagination,
    Storable,
    UuidText,
)
from model_service.services.exports.requests import FORMATS
from model_service.states import ExportStatus, JobErrorCode


class JobPath(BaseModel):
    job_id: UuidText


# Fields that the design documents also show inside export_config.
_IN_CONFIG = {
    "format": "export_format",
    "optimization": "optimization_config",
    "validation": "validation_config",
}


class NewExport(Body):
    """Aliases, here or inside export_config: format, optimization and validation."""

    OTHER_NAMES = _IN_CONFIG

    model_id: ModelReference | None = None
    training_job_id: UuidText | None = None
    export_format: Annotated[str, Field(max_length=40, json_schema_extra={"enum": list(FORMATS)})]
    export_config: Storable = {}
    optimization_config: Storable | None = None
    validation_config: Storable | None = None
    version_tag: str | None = Field(None, max_length=100)
    reuse: bool = Field(True, description="return an equal stored export if there is one")

    @model_validator(mode="before")
    @classmethod
    def _lift_from_config(cls, data: Any) -> Any:
        """Raises: ValueError: a field and its copy in ``export_config`` differ."""
        config = data.get("export_config") if isinstance(data, dict) else None
        if not isinstance(config, dict) or not _IN_CONFIG.keys() & config.keys():
            return data
        lifted = data | {"export_config": {k: v for k, v in config.items() if k not in _IN_CONFIG}}
        for name, field in _IN_CONFIG.items():
            if name not in config:
                continue
            key = name if name in data else field
            if lifted.setdefault(key, config[name]) != config[name]:
                raise ValueError(
                    f"{key!r} and export_config's {name!r} have different values: send one of them"
                )
        return lifted


class ExportQuery(Paged):
    model_id: ModelReference | None = Field(None, max_length=300, description="an id or a reference")
    training_job_id: str | None = Field(None, max_length=64)
    status: ExportStatus | None = None
    export_format: str | None = Field(None, max_length=40)
    version_tag: str | None = Field(None, max_length=100)
    is_default: bool | None = None
    user_id: str | None = Field(None, max_length=128, description="the user who requested the export")
    trace_id: str | None = Field(None, max_length=64)

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "limit"})


class ExportsOfQuery(Paged):
    """Filters for the exports of one model or training job. ``is_default`` selects its default export."""

    status: ExportStatus | None = None
    export_format: str | None = Field(None, max_length=40)
    version_tag: str | None = Field(None, max_length=100)
    is_default: bool | None = None

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "limit"})


class ExportJob(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    trace_id: str
    user_id: str | None = None
    model_id: OptionalId
    model_name: str
    model_version: str
    training_job_id: str | None
    version: int
    version_tag: str | None
    is_default: bool
    training_version: int | None = Field(
        None, description="the number of this export among those of the training job"
    )
    is_training_default: bool = Field(False, description="whether it is the default of the training job")
    export_format: str
    framework: str | None
    task_type: str | None
    export_config: JSONObject
    optimization_config: JSONObject | None
    validation_config: JSONObject | None
    status: ExportStatus
    progress_percent: float
    progress_message: str
    progress_step: str | None = None
    attempts: int
    worker: str | None = None
    process_id: int | None = Field(None, description="of the conversion process, on the worker's machine")
    retry_of: str | None = Field(None, description="the job that this one retries")
    reused_from: str | None = Field(None, description="the equal export whose package is reused")
    checkpoint_path: str
    exported_model_path: str | None = None
    export_package_path: str | None = None
    export_package_size_bytes: int | None = None
    export_package_checksum: str | None = None
    model_size_bytes: int | None = None
    optimization_stats: JSONObject | None = None
    validation_metrics: JSONObject | None = None
    fidelity: JSONObject | None = None
    inputs: list[JSONObject] | None = None
    outputs: list[JSONObject] | None = None
    batch: JSONObject | None = Field(
        None,
        description="dynamic, size, and independent_rows: whether a row's outputs depend only on that row",
    )
    table: JSONObject | None = Field(
        None, description="for an estimator fitted on a data frame: its columns in the input's order"
    )
    performance: JSONObject | None = None
    environment: JSONObject | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime
    error_code: str | None = None
    error_message: str | None = None
    log: list[str] = []


class Callback(Body):
    status: Literal["running", "completed", "failed"]
    progress_percent: float | None = Field(None, ge=0, le=100)
    message: str | None = Field(None, max_length=1000, description="of the progress")
    error_code: str = Field(JobErrorCode.CONVERSION_FAILED.value, min_length=1, max_length=100)
    error_message: str = Field(
        "The conversion failed elsewhere, and gave no reason.", min_length=1, max_length=1000
    )


class CreatedExport(ExportJob):
    callback_token: str = Field(description="the credential for the job's callbacks; only in this response")


class ExportPage(BaseModel):
    jobs: list[ExportJob]
    pagination: Pagination
