"""What requests may say and answers look like. The OpenAPI document is made from these."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field

from model_service.services.paging import Page
from model_service.states import DeploymentStatus, DeploymentType, ExportStatus, ModelStatus

MAX_DEPTH = 32


def check_storable(value: Any, depth: int = 0) -> Any:
    """JSON that MongoDB can keep: its integers have 64 bits, its keys no NUL, its nesting an end.

    Raises:
        ValueError: it is not.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    match value:
        case dict():
            for key, inner in value.items():
                if "\0" in key:
                    raise ValueError("a key contains a NUL character")
                check_storable(inner, depth + 1)
        case list():
            for inner in value:
                check_storable(inner, depth + 1)
        case int() if not -(2**63) <= value < 2**63:
            raise ValueError("an integer does not fit in 64 bits")
    return value


Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}$",
        description="1 to 128 letters, digits, '_', '-' and '.', starting with a letter or a digit",
    ),
]
Tag = Annotated[str, Field(min_length=1, max_length=128)]
Text = Annotated[str, Field(min_length=1, max_length=128)]
Tags = Annotated[list[Tag], Field(max_length=100)]
JSONObject = dict[str, Any]
Storable = Annotated[JSONObject, AfterValidator(check_storable)]
# Ids are text in every answer, whatever the database keeps.
Id = Annotated[str, BeforeValidator(str)]
OptionalId = Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))]


class Body(BaseModel):
    """A request's JSON. An unknown field is a mistake that we name rather than ignore."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @classmethod
    @cache
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """flask-openapi3 asks for this on every request; making it costs a millisecond."""
        return super().model_json_schema(*args, **kwargs)


class Paged(Query):
    page: int = Field(1, ge=1, le=1_000_000)
    limit: int | None = Field(None, ge=1, description="at most MAX_PAGE_SIZE; by default 20")


class ModelPath(BaseModel):
    model_id: str


class JobPath(BaseModel):
    job_id: str


class DeploymentPath(BaseModel):
    deployment_id: str


class ModelFields(Body):
    description: str | None = Field(None, max_length=10_000)
    framework: Text | None = None
    task_type: Text | None = None
    hyperparameters: Storable = {}
    metrics: Storable = {}
    dataset_info: Storable = {}
    tags: Tags = []
    status: ModelStatus = ModelStatus.ACTIVE


class NewModel(ModelFields):
    name: Name
    algorithm: Text
    version: str | None = Field(None, max_length=20, description="'v1.0'; without it the next minor version")
    parent_model_id: str | None = None
    created_by: Text | None = None


class ModelChanges(ModelFields):
    """Only the fields that are sent change."""

    algorithm: Text | None = None


class ModelQuery(Paged):
    name: Text | None = None
    algorithm: Text | None = None
    framework: Text | None = None
    task_type: Text | None = None
    status: ModelStatus | None = None
    created_by: Text | None = None
    tags: str | None = Field(None, max_length=2000, description="comma-separated; any of them matches")
    min_accuracy: float | None = Field(None, description="of metrics.accuracy or metrics.test_accuracy")

    def filters(self) -> dict[str, Any]:
        found = self.model_dump(exclude={"page", "limit", "tags"}, exclude_none=True)
        if self.tags:
            found["tags"] = [tag for tag in self.tags.split(",") if tag]
        return found


class NewExport(Body):
    model_id: str | None = None
    training_job_id: str | None = None
    export_format: Annotated[str, Field(max_length=40)]
    export_config: Storable = {}
    optimization_config: Storable | None = None
    validation_config: Storable | None = None
    version_tag: str | None = Field(None, max_length=100)


class ExportQuery(Paged):
    model_id: str | None = None
    status: ExportStatus | None = None


class NewDeployment(Body):
    export_job_id: str
    deployment_type: DeploymentType = DeploymentType.PLATFORM_ENDPOINT
    name: Name
    description: str | None = Field(None, max_length=1000)
    config: Storable = {}


class DeploymentQuery(Paged):
    status: DeploymentStatus | None = None


class Answer(BaseModel):
    """Read from a stored document: ``_id`` becomes ``id``, what is not named here stays inside."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class FileMetadata(Answer):
    file_id: Id
    size_bytes: int
    checksum: str
    format: str
    filename: str


class StoredPath(Answer):
    path: str
    file_id: Id
    size_bytes: int
    checksum: str


class Model(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    version: str
    algorithm: str
    framework: str | None
    task_type: str | None
    description: str | None
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    tags: list[str]
    status: ModelStatus
    parent_model_id: OptionalId
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    download_count: int
    files: list[StoredPath]
    file_metadata: FileMetadata | None


class Pagination(BaseModel):
    page: int
    limit: int
    total: int
    pages: int

    @classmethod
    def of(cls, page: Page) -> "Pagination":
        return cls(page=page.page, limit=page.limit, total=page.total, pages=page.pages)


class ModelPage(BaseModel):
    models: list[Model]
    pagination: Pagination


class Registered(BaseModel):
    success: Literal[True] = True
    message: str = "Model registered successfully"
    model_id: Id
    version: str
    download_url: str


class Uploaded(BaseModel):
    success: Literal[True] = True
    message: str = "Model file stored"
    model_id: Id
    file_metadata: FileMetadata


class ModelInfo(BaseModel):
    model_id: Id
    name: str
    version: str
    algorithm: str
    file_metadata: FileMetadata
    download_count: int
    download_url: str


class Deleted(BaseModel):
    success: Literal[True] = True
    message: str
    deleted_id: str


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
    export_format: str
    framework: str | None
    task_type: str | None
    export_config: JSONObject
    optimization_config: JSONObject | None
    validation_config: JSONObject | None
    status: ExportStatus
    progress_percent: float
    progress_message: str
    attempts: int
    checkpoint_path: str
    exported_model_path: str | None = None
    export_package_path: str | None = None
    export_package_size_bytes: int | None = None
    export_package_checksum: str | None = None
    model_size_bytes: int | None = None
    optimization_stats: JSONObject | None = None
    validation_metrics: JSONObject | None = None
    fidelity: JSONObject | None = None
    performance: JSONObject | None = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime
    error_code: str | None = None
    error_message: str | None = None
    log: list[str] = []


class ExportPage(BaseModel):
    jobs: list[ExportJob]
    pagination: Pagination


class Deployment(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    user_id: str | None = None
    export_job_id: str
    deployment_type: DeploymentType
    name: str
    description: str | None
    config: JSONObject
    status: DeploymentStatus
    endpoint_url: str
    model_version: str
    error_message: str | None = None
    request_count: int
    last_request_at: datetime | None
    total_inference_time_ms: float
    created_at: datetime
    deployed_at: datetime | None = None
    deactivated_at: datetime | None = None
    updated_at: datetime


class CreatedDeployment(Deployment):
    api_key: str = Field(description="shown this once; only its hash is kept")


class DeploymentPage(BaseModel):
    deployments: list[Deployment]
    pagination: Pagination


class Health(BaseModel):
    status: Literal["healthy", "unhealthy"]
    service: Literal["model-service"] = "model-service"
    version: str
    mongodb_connected: bool
    gridfs_available: bool
    redis_connected: bool
    total_models: int | None
    timestamp: datetime


class ErrorBody(BaseModel):
    code: str
    message: str
    details: JSONObject


class Error(BaseModel):
    success: Literal[False] = False
    error: ErrorBody
    request_id: str
