"""Requests and responses of deployments."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    computed_field,
    model_validator,
)

from model_service.api.schemas.common import (
    Answer,
    Body,
    Id,
    JSONObject,
    Limited,
    Name,
    NotNull,
    Paged,
    Pagination,
    Text,
    UuidText,
)
from model_service.api.schemas.files import MAX_SIGNED_S
from model_service.sentences import pattern
from model_service.states import DeploymentStatus, DeploymentType

MOST_MEMBERS = 32

ExportId = Annotated[UuidText, Field(max_length=64)]
Replicas = Annotated[int, Field(ge=1, le=64)]
Percent = Annotated[int, Field(ge=1, le=100, description="percent; a higher load for some time adds servers")]
DisplayName = Annotated[
    str,
    Field(min_length=1, max_length=255),
    pattern(
        r"^[^\x00-\x1f\x7f/]+$",
        "any text without '/', for example 'Production API'; one that cannot be part of a URL is kept as "
        "display_name, and name is derived from it",
    ),
]
Header = Annotated[
    str,
    pattern(
        r"^[A-Za-z0-9\-_]{1,64}$", "the name of a header: 1 to 64 letters (A-Z, a-z), digits, '-' and '_'"
    ),
]


Platform = Literal["ios", "android", "linux-arm64"]
# https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests, also with a host
ImageName = Annotated[
    str,
    Field(max_length=255),
    pattern(
        r"^(?:[a-zA-Z0-9.\-]+(?::[0-9]+)?/)?[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
        r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$",
        "the name of an image, for example team/digits or registry.example:5000/team/digits",
    ),
]
ImageTag = Annotated[
    str,
    pattern(r"^[A-Za-z0-9_][A-Za-z0-9._\-]{0,127}$", "the tag of an image, for example latest or v1.0"),
]


class DeploymentPath(BaseModel):
    deployment_id: str


# The service's design documents use two names for some fields; both are accepted.
_SCALING_NAMES = {
    "min": "min_replicas",
    "max": "max_replicas",
    "target_cpu_utilization": "target_utilization",
}


class AutoScaling(Body):
    """Unsent fields do not change. Defaults: 1, 1, 70. Aliases: min, max, target_cpu_utilization."""

    OTHER_NAMES = _SCALING_NAMES

    min_replicas: Annotated[Replicas | None, NotNull] = None
    max_replicas: Annotated[Replicas | None, NotNull] = None
    target_utilization: Annotated[Percent | None, NotNull] = None
    initial_replicas: Annotated[Replicas | None, NotNull] = Field(
        None, description="the number of servers at the start; by default min_replicas"
    )


class Batching(Body):
    """Fields that are not sent do not change. Defaults: 16 and 0."""

    max_batch_size: Annotated[int | None, NotNull] = Field(
        None, ge=1, le=1024, description="the most requests in one run; 1: no batching"
    )
    max_delay_ms: Annotated[float | None, NotNull] = Field(
        None, ge=0, le=1000, description="how long a request may wait for a batch"
    )


class DeploymentConfig(Body):
    """Fields that are not sent do not change; in a new deployment they have their defaults."""

    gpu_enabled: Annotated[bool | None, NotNull] = None
    replicas: Annotated[Replicas | None, NotNull] = Field(
        None,
        exclude=True,
        description="without auto_scaling: a fixed number of servers; with it: initial_replicas",
    )
    inference_framework: Annotated[Literal["model-service", "triton"] | None, NotNull] = Field(
        None,
        description="of an endpoint: both select this service's inference server, which supports Triton's "
        "protocol; of a container: the server in the image, by default model-service",
    )
    auto_scaling: Annotated[AutoScaling | None, NotNull] = None
    batching: Annotated[Batching | None, NotNull] = None
    max_concurrency: Annotated[int | None, NotNull] = Field(
        None,
        ge=1,
        le=10_000,
        description="the most concurrent requests in a process, by default 64; further ones get 429",
    )
    timeout_ms: Annotated[int | None, NotNull] = Field(
        None, ge=1, le=600_000, description="the time limit of a request, by default 30000; then 504"
    )
    expires_in_s: Annotated[int | None, NotNull] = Field(
        None,
        ge=1,
        le=MAX_SIGNED_S,
        description="not of an endpoint: how long download_url is valid, by default 86400",
    )
    target_platform: Annotated[Literal[Platform, "both"] | None, NotNull] = Field(
        None, description="of an edge package: both needs export_job_ids"
    )
    includes_sample_code: Annotated[Literal[True] | None, NotNull] = Field(
        None, description="of an edge package: every one includes sample code"
    )
    image_name: Annotated[ImageName | None, NotNull] = Field(
        None, description="of a container: by default exports/ and the deployment's id"
    )
    image_tag: Annotated[ImageTag | None, NotNull] = Field(
        None, description="of a container: by default latest"
    )

    @model_validator(mode="after")
    def _place_replicas(self) -> Self:
        """Raises: ValueError: ``replicas`` and ``initial_replicas`` differ."""
        if self.replicas is None:
            return self
        scaling = self.auto_scaling
        if scaling is None:
            fixed = {"min_replicas": self.replicas, "max_replicas": self.replicas}
            self.auto_scaling = AutoScaling.model_validate(fixed)
        elif scaling.initial_replicas not in (None, self.replicas):
            raise ValueError("'replicas' and 'auto_scaling.initial_replicas' differ: send one of them")
        else:
            scaling.initial_replicas = self.replicas
        return self


class TrafficMember(Body):
    export_job_id: ExportId
    weight: int = Field(100, ge=0, le=1_000_000)
    name: Name | None = None


class EnsembleMember(Body):
    export_job_id: ExportId
    name: Name | None = None
    inputs: Annotated[dict[Text, Text], Field(max_length=64)] | None = Field(
        None, description="input → 'member.output' of an earlier member, or an input of the request"
    )


class ShadowTraffic(Body):
    export_job_id: ExportId
    share: float = Field(ge=0, le=1, description="of the requests that are copied to the shadow")


class RollbackRule(Body):
    """The rule for an automatic rollback to the previous revision."""

    max_error_rate: float | None = Field(None, ge=0, lt=1)
    max_p95_ms: float | None = Field(None, gt=0)
    min_requests: int = Field(
        50, ge=1, le=1_000_000, description="the number of requests in the window that a decision needs"
    )
    window_s: int = Field(60, ge=1, le=3600)


# Fields of ``config`` that the design documents also show beside it.
_IN_CONFIG = ("target_platform", "image_name", "image_tag")


class DeploymentFields(Body):
    """A platform endpoint needs exactly one of export_job_id, traffic, models and ensemble.

    A deployment of another type needs export_job_id, an edge package for both platforms export_job_ids.
    """

    OTHER_NAMES: ClassVar = {"deployment_config": "config"}

    export_job_id: ExportId | None = None
    export_job_ids: dict[Platform, ExportId] | None = Field(
        None, description="of an edge package: target platform → export job"
    )
    traffic: Annotated[list[TrafficMember], Field(min_length=1, max_length=MOST_MEMBERS)] | None = None
    models: Annotated[dict[Name, ExportId], Field(min_length=1, max_length=MOST_MEMBERS)] | None = None
    ensemble: Annotated[list[EnsembleMember], Field(min_length=1, max_length=MOST_MEMBERS)] | None = None
    sticky_header: Header | None = Field(
        None, description="requests with the same value of this header go to the same member"
    )
    shadow: ShadowTraffic | None = None
    rollback: RollbackRule | None = None
    description: str | None = Field(None, max_length=1000)
    config: DeploymentConfig = Field(default_factory=DeploymentConfig.model_construct)
    override_verification: bool = Field(False, description="administrators only; recorded in the history")

    @model_validator(mode="before")
    @classmethod
    def _place_in_config(cls, data: Any) -> Any:
        """Accept some fields of ``config`` beside it. Raises: ValueError: a field is sent in both places."""
        sent = [name for name in _IN_CONFIG if isinstance(data, dict) and name in data]
        if not sent:
            return data
        moved = {name: value for name, value in data.items() if name not in sent}
        config = moved.pop("deployment_config", None) if "config" not in moved else moved["config"]
        config = {} if config is None else config
        if not isinstance(config, dict):
            return data
        for name in sent:
            if name in config:
                raise ValueError(f"{name!r} is sent twice: beside config and in it")
        return {**moved, "config": {**config, **{name: data[name] for name in sent}}}

    def fields(self) -> dict[str, Any]:
        """Return the fields that were sent. Parts that are replaced as a whole include their defaults."""
        sent = self.model_dump(exclude_unset=True)
        whole = self.model_dump(include={"traffic", "ensemble", "rollback", "shadow"})
        return sent | {part: value for part, value in whole.items() if part in sent}


class NewDeployment(DeploymentFields):
    name: DisplayName
    deployment_type: DeploymentType = DeploymentType.PLATFORM_ENDPOINT


class DeploymentPatch(DeploymentFields):
    """Fields that are not sent do not change; ``config`` is merged deeply, null clears optional fields."""

    name: Annotated[DisplayName | None, NotNull] = None
    deployment_type: Annotated[DeploymentType | None, NotNull] = None


class Scaling(Body):
    """Either ``replicas`` or some of the others. Aliases: min, max, target_cpu_utilization."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})
    OTHER_NAMES = _SCALING_NAMES

    replicas: Annotated[Replicas | None, NotNull] = None
    min_replicas: Annotated[Replicas | None, NotNull] = None
    max_replicas: Annotated[Replicas | None, NotNull] = None
    target_utilization: Annotated[Percent | None, NotNull] = None


class Rollback(Body):
    revision: int | None = Field(None, ge=1, description="by default the newest revision with other traffic")


class Promotion(Body):
    member: Name


class Renewal(Body):
    expires_in_s: int | None = Field(
        None, ge=1, le=MAX_SIGNED_S, description="from now; by default that of config"
    )


class DeploymentQuery(Paged):
    status: DeploymentStatus | None = None
    deployment_type: DeploymentType | None = None
    name: str | None = Field(None, max_length=255, description="or the display_name")
    model_name: str | None = Field(None, max_length=200)
    export_job_id: str | None = Field(None, max_length=64)
    user_id: str | None = Field(None, max_length=128)

    def filters(self) -> dict[str, Any]:
        return self.model_dump(exclude={"page", "limit"})


class HistoryQuery(Paged):
    event_type: str | None = Field(None, max_length=50)


class LogQuery(Limited):
    level: Literal["debug", "info", "warning", "error"] | None = Field(
        None, description="this level and more severe ones"
    )


class PackageInfo(Answer):
    size_bytes: int
    checksum: str


class MemberAnswer(Answer):
    name: str
    export_job_id: str
    model_name: str
    model_version: str
    format: str
    weight: int
    inputs: dict[str, str] | None
    package: PackageInfo
    verdict: str | None = Field(None, description="of the export, in a deployment without an endpoint")


class ShadowAnswer(MemberAnswer):
    share: float


class RollbackAnswer(Answer):
    max_error_rate: float | None
    max_p95_ms: float | None
    min_requests: int
    window_s: int


class Routing(Answer):
    mode: Literal["split", "models", "ensemble"]
    members: list[MemberAnswer]
    sticky_header: str | None
    shadow: ShadowAnswer | None
    rollback: RollbackAnswer | None


class Revision(Answer):
    revision: int
    routing: Routing
    config: JSONObject
    created_at: datetime
    created_by: str
    live_at: datetime | None = Field(None, description="the time when a server first served it")
    rolled_back: bool = False
    failed: bool = False


class Deployment(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    user_id: str
    export_job_id: str
    deployment_type: DeploymentType
    name: str
    display_name: str = Field(description="the name that was sent")
    description: str | None
    config: JSONObject
    routing: Routing
    revision: int
    live_revision: int | None
    status: DeploymentStatus
    endpoint_url: str | None = Field(description="of a platform endpoint")
    download_url: str | None = Field(
        None, description="the package, for anyone who has this URL; null if inactive, or expired"
    )
    expires_at: datetime | None = Field(None, description="of download_url")
    download_count: int | None = Field(None, description="started downloads of the whole package")
    notice: str | None = Field(None, description="what was not proven about this package")
    package: PackageInfo | None = Field(None, description="the zip of the live revision")
    namespace: str
    model_name: str
    model_version: str
    error_message: str | None = None
    request_count: int
    error_count: int = 0
    last_request_at: datetime | None
    total_inference_time_ms: float
    created_at: datetime
    deployed_at: datetime | None = None
    deactivated_at: datetime | None = None
    updated_at: datetime

    @computed_field(description="the same status in other words")  # type: ignore[prop-decorator]
    @property
    def deployment_config(self) -> JSONObject:
        match self.deployment_type:
            case DeploymentType.DOWNLOAD:
                return {"download_url": self.download_url, "expires_at": self.expires_at}
            case DeploymentType.EDGE_PACKAGE:
                return {
                    "package_url": self.download_url,
                    "target_platform": self.config["target_platform"],
                    "includes_sample_code": self.config["includes_sample_code"],
                }
            case DeploymentType.CONTAINER:
                return {
                    "dockerfile_url": self.download_url,
                    "image_name": self.config["image_name"],
                    "image_tag": self.config["image_tag"],
                }
        scaling = self.config["auto_scaling"]
        return {
            "endpoint_url": self.endpoint_url,
            "inference_framework": "model-service",
            "replicas": scaling.get("initial_replicas", scaling["min_replicas"]),
            "gpu_enabled": self.config["gpu_enabled"],
            "auto_scaling": {
                "min": scaling["min_replicas"],
                "max": scaling["max_replicas"],
                "target_utilization": scaling["target_utilization"],
            },
        }


class WholeDeployment(Deployment):
    revisions: list[Revision] = Field(description="the stored revisions, the present one last")


class CreatedDeployment(WholeDeployment):
    api_key: str | None = Field(
        description="of a platform endpoint; shown only in this response, since only its hash is stored"
    )


class DeploymentPage(BaseModel):
    deployments: list[Deployment]
    pagination: Pagination


class DeploymentEvent(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    deployment_target_id: str
    event_type: str
    event_data: JSONObject
    status_before: DeploymentStatus | None
    status_after: DeploymentStatus | None
    created_at: datetime
    created_by_user_id: str | None = None


class DeploymentHistoryPage(BaseModel):
    history: list[DeploymentEvent]
    pagination: Pagination


class DeploymentLogEntry(Answer):
    at: datetime
    level: str
    event: str
    message: str
    server: str
    details: JSONObject = {}


class DeploymentLog(BaseModel):
    logs: list[DeploymentLogEntry]
