"""The fields of requests for deployments, as the API passes them on."""

from typing import Required

from typing_extensions import TypedDict

from model_service.states import DeploymentType
from model_service.storage.common.documents import JSONObject
from model_service.storage.deployments.documents import RollbackRule

# The request fields that name the exports to deploy. Each implies a routing mode.
SOURCES = ("export_job_id", "traffic", "models", "ensemble")


class SentMember(TypedDict, total=False):
    name: str | None
    export_job_id: Required[str]
    weight: int
    inputs: dict[str, str] | None


class SentShadow(TypedDict):
    export_job_id: str
    share: float


class SentScaling(TypedDict, total=False):
    replicas: int
    min_replicas: int
    max_replicas: int
    target_utilization: int
    initial_replicas: int


class SentConfig(TypedDict, total=False):
    """The fields of every type; ``services.deployments.kinds`` has those of each."""

    gpu_enabled: bool
    auto_scaling: SentScaling
    batching: JSONObject
    max_concurrency: int
    timeout_ms: int
    expires_in_s: int
    target_platform: str
    includes_sample_code: bool
    inference_framework: str
    image_name: str
    image_tag: str


class SentDeployment(TypedDict, total=False):
    """The fields of a deployment in a request. One of SOURCES names the exports of an endpoint."""

    name: str
    deployment_type: DeploymentType
    description: str | None
    export_job_id: str | None
    export_job_ids: dict[str, str] | None
    traffic: list[SentMember] | None
    models: dict[str, str] | None
    ensemble: list[SentMember] | None
    sticky_header: str | None
    shadow: SentShadow | None
    rollback: RollbackRule | None
    config: SentConfig
    override_verification: bool
