"""The documents of deployments, with revisions and packages, and of their keys, events, logs and usage."""

from datetime import datetime
from typing import Annotated, NotRequired

from pydantic import SkipValidation
from typing_extensions import TypedDict

from model_service.actor import namespace_of
from model_service.states import DeploymentStatus, Tier
from model_service.storage.common.documents import BlobReference, JSONObject, LeasedJob, StoredId, one_of


class Member(TypedDict):
    """``inputs`` of an ensemble's member: the name of each input, and where its values come from."""

    name: str
    export_job_id: str
    model_name: str
    model_version: str
    format: str
    package: BlobReference
    weight: int
    inputs: Annotated[dict[str, str], SkipValidation] | None
    verdict: NotRequired[str]  # of the export, in a deployment without an endpoint


class Shadow(Member):
    share: float


class RollbackRule(TypedDict):
    max_error_rate: float | None
    max_p95_ms: float | None
    min_requests: int
    window_s: int


class Routing(TypedDict):
    mode: str
    members: list[Member]
    sticky_header: str | None
    shadow: Shadow | None
    rollback: Annotated[RollbackRule, SkipValidation] | None


class AutoScaling(TypedDict):
    """``initial_replicas``, if it was sent."""

    min_replicas: int
    max_replicas: int
    target_utilization: int
    initial_replicas: NotRequired[int]


class Batching(TypedDict):
    max_batch_size: int
    max_delay_ms: float


class DeploymentConfig(TypedDict, total=False):
    """The configuration of one deployment type, complete: of an endpoint, or of a package."""

    # Of a platform endpoint.
    gpu_enabled: bool
    auto_scaling: Annotated[AutoScaling, SkipValidation]
    batching: Annotated[Batching, SkipValidation]
    max_concurrency: int
    timeout_ms: int
    # Of a package.
    expires_in_s: int
    target_platform: str
    includes_sample_code: bool
    inference_framework: str
    image_name: str
    image_tag: str


class Revision(TypedDict):
    revision: int
    routing: Routing
    config: DeploymentConfig
    created_at: datetime
    created_by: str
    live_at: datetime | None
    rolled_back: bool
    failed: bool


class OfferedExport(TypedDict):
    export_job_id: str
    format: str
    verdict: str


class Delivery(TypedDict):
    """The download of a deployment without an endpoint.

    ``package`` is the zip that was built for the live revision; a deployment of type ``download`` offers its
    export's own package and has none. ``offered`` are the live revision's exports. ``due``: the newest
    revision is to be made live. A signed URL contains ``address``; a deactivation increments it, so that the
    URLs before it end.
    """

    package: NotRequired[BlobReference]
    offered: NotRequired[list[OfferedExport]]
    due: bool
    expires_at: datetime | None
    address: int
    downloads: int


class Deployment(TypedDict):
    """``config`` and ``routing`` repeat those of the newest revision; some fields are its first member's.

    Only the revisions hold packages, one reference for each occurrence. ``display_name`` is the name that
    ``name`` was derived from; null or missing if ``name`` was given directly.
    """

    _id: str
    user_id: str
    name: str
    display_name: NotRequired[str | None]
    description: str | None
    deployment_type: str
    status: Annotated[str, one_of(DeploymentStatus)]
    namespace: str
    export_job_id: str
    model_name: str
    model_version: str
    config: DeploymentConfig
    routing: Routing
    revision: int
    revisions: list[Revision]
    live_revision: int | None
    error_message: str | None
    request_count: int
    error_count: int
    last_request_at: datetime | None
    total_inference_time_ms: float
    created_at: datetime
    updated_at: datetime
    deployed_at: datetime | None
    deactivated_at: datetime | None
    load_attempts: NotRequired[dict[str, int]]
    delivery: NotRequired[Delivery]


class DeletedDeployment(TypedDict):
    """What the history tells of a deleted deployment; only ``_id`` if an older version deleted it."""

    _id: str
    name: NotRequired[str | None]
    model_name: NotRequired[str | None]
    user_id: NotRequired[str | None]


class DeploymentEvent(TypedDict):
    deployment_target_id: str
    event_type: str
    event_data: dict[str, object]
    status_before: str | None
    status_after: str | None
    created_at: datetime
    created_by_user_id: str
    _id: NotRequired[StoredId]


class DeploymentLogEntry(TypedDict):
    deployment_id: str
    at: datetime
    level: str
    event: str
    message: str
    server: NotRequired[str]
    details: NotRequired[JSONObject]


class DeploymentKey(TypedDict):
    """``rotated`` if another key has replaced it."""

    _id: str
    deployment_id: str
    name: str
    prefix: str
    sha256: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    rotated: NotRequired[bool]


def new_deployment_key(
    key_id: str,
    deployment_id: str,
    name: str,
    prefix: str,
    sha256: str,
    *,
    expires_at: datetime | None,
    at: datetime,
) -> DeploymentKey:
    return {
        "_id": key_id,
        "deployment_id": deployment_id,
        "name": name,
        "prefix": prefix,
        "sha256": sha256,
        "created_at": at,
        "expires_at": expires_at,
        "last_used_at": None,
    }


class ServedKey(TypedDict):
    """The fields of a key that an inference server needs."""

    _id: str
    deployment_id: str
    sha256: str
    expires_at: datetime | None


class ServedDeployment(Deployment):
    """A deployment with its keys and its owner's tier, as an inference server reads it."""

    keys: list[ServedKey]
    owner_tier: Tier | None


class PackageBuild(LeasedJob):
    """The build of one revision's package, with the export packages that it reads as ``source``."""

    revision: int
    deployment_type: str
    model_name: str
    config: DeploymentConfig


class DeploymentQuota(TypedDict):
    """Serialises a user's additions."""

    _id: str
    asked: int


class Usage(TypedDict):
    deployment_id: str
    hour: datetime
    member: str
    model_version: str
    requests: int


class UsageRow(TypedDict):
    """The usage of a member and version in an hour or a day, with the requests by their latency."""

    at: datetime
    member: str
    model_version: str
    requests: int
    client_errors: int
    errors: int
    inference_ms: float
    bytes_in: int
    bytes_out: int
    histogram: list[int]


class OwnerMonth(TypedDict):
    """The order of the fields is significant."""

    owner: str
    month: datetime


class UsageMonth(TypedDict):
    _id: Annotated[OwnerMonth, SkipValidation]
    requests: int


DEFAULT_CONFIG: DeploymentConfig = {
    "gpu_enabled": False,
    "auto_scaling": {"min_replicas": 1, "max_replicas": 1, "target_utilization": 70},
    "batching": {"max_batch_size": 16, "max_delay_ms": 0},
    "max_concurrency": 64,
    "timeout_ms": 30_000,
}
DEFAULT_WEIGHT = 100


def new_revision(number: int, routing: Routing, config: DeploymentConfig, by: str, at: datetime) -> Revision:
    """Return a revision that no server serves yet."""
    return {
        "revision": number,
        "routing": routing,
        "config": config,
        "created_at": at,
        "created_by": by,
        "live_at": None,
        "rolled_back": False,
        "failed": False,
    }


# The first downloads of a new deployment without an endpoint.
NEW_DELIVERY: Delivery = {"due": True, "expires_at": None, "address": 1, "downloads": 0}


class DeploymentName(TypedDict):
    name: str
    display_name: str | None


class FirstMember(TypedDict):
    export_job_id: str
    model_name: str
    model_version: str


def of_first_member(routing: Routing) -> FirstMember:
    """Return the fields of the document that describe its first member."""
    first = routing["members"][0]
    return {
        "export_job_id": first["export_job_id"],
        "model_name": first["model_name"],
        "model_version": first["model_version"],
    }


def new_deployment(
    deployment_id: str,
    owner: str,
    names: DeploymentName,
    description: str | None,
    kind: str,
    routing: Routing,
    config: DeploymentConfig,
    at: datetime,
    delivery: Delivery | None = None,
) -> Deployment:
    """Return a pending deployment with its first revision.

    Args:
        delivery: of a deployment without an endpoint.
    """
    first = of_first_member(routing)
    deployment: Deployment = {
        "_id": deployment_id,
        "user_id": owner,
        "name": names["name"],
        "display_name": names["display_name"],
        "description": description,
        "deployment_type": kind,
        "status": DeploymentStatus.PENDING,
        "namespace": namespace_of(first["model_name"]),
        "export_job_id": first["export_job_id"],
        "model_name": first["model_name"],
        "model_version": first["model_version"],
        "config": config,
        "routing": routing,
        "revision": 1,
        "revisions": [new_revision(1, routing, config, owner, at)],
        "live_revision": None,
        "error_message": None,
        "request_count": 0,
        "error_count": 0,
        "last_request_at": None,
        "total_inference_time_ms": 0.0,
        "created_at": at,
        "updated_at": at,
        "deployed_at": None,
        "deactivated_at": None,
    }
    if delivery is not None:
        deployment["delivery"] = delivery
    return deployment
