"""Records of deployments."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model_service.client.records import Record
from model_service.states import DeploymentStatus

# DeploymentStatus has no final state: a failed or inactive deployment can be activated again.
_SETTLED = frozenset({DeploymentStatus.ACTIVE, DeploymentStatus.INACTIVE, DeploymentStatus.FAILED})


@dataclass(frozen=True, kw_only=True)
class Deployment(Record):
    """A deployment at ``endpoint_url``. ``routing`` lists its exports, ``config`` their configuration.

    One without an endpoint has a package at ``download_url`` until ``expires_at``; ``notice`` says what was
    not proven about it.

    Every change creates another ``revision``; ``live_revision`` is the newest one that the inference servers
    have loaded. ``api_key`` is set only in the response to the creation, and never shown in a repr.
    """

    id: str
    status: str
    name: str | None = None
    namespace: str | None = None
    description: str | None = None
    deployment_type: str | None = None
    endpoint_url: str | None = None
    download_url: str | None = None
    expires_at: datetime | None = None
    download_count: int | None = None
    notice: str | None = None
    api_key: str | None = field(default=None, repr=False)
    user_id: str | None = None
    export_job_id: str | None = None
    model_name: str | None = None
    model_version: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    routing: dict[str, Any] = field(default_factory=dict)
    revision: int | None = None
    revisions: tuple[dict[str, Any], ...] = ()
    live_revision: int | None = None
    error_message: str | None = None
    request_count: int = 0
    error_count: int = 0
    total_inference_time_ms: float = 0
    last_request_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deployed_at: datetime | None = None
    deactivated_at: datetime | None = None

    parsers = {  # noqa: RUF012 - a ClassVar, declared in Record
        "revisions": tuple,
        "expires_at": datetime.fromisoformat,
        "last_request_at": datetime.fromisoformat,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
        "deployed_at": datetime.fromisoformat,
        "deactivated_at": datetime.fromisoformat,
    }

    @property
    def settled(self) -> bool:
        """Return whether no change is in progress: it is active, inactive, or failed."""
        return self.status in _SETTLED

    @property
    def members(self) -> tuple[dict[str, Any], ...]:
        """Return the exports that answer requests.

        Each has ``name``, ``export_job_id``, ``model_name``, ``model_version`` and ``weight``.
        """
        return tuple(self.routing.get("members") or ())

    def serves(self, revision: int | None) -> bool:
        """Return whether it serves ``revision`` or a later one. None on either side: any revision."""
        if self.status != DeploymentStatus.ACTIVE:
            return False
        return revision is None or self.live_revision is None or self.live_revision >= revision

    def gave_up(self, revision: int | None) -> bool:
        """Return whether the servers could not load that revision, or rolled back from it."""
        kept = (each for each in self.revisions if each.get("revision") == revision)
        return any(each.get("failed") or each.get("rolled_back") for each in kept)


@dataclass(frozen=True, kw_only=True)
class DeploymentKey(Record):
    """An endpoint key. Its text, ``key``, is set only when it is created, and never shown in a repr."""

    id: str
    name: str | None = None
    prefix: str | None = None
    deployment_id: str | None = None
    key: str | None = field(default=None, repr=False)
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    parsers = {  # noqa: RUF012
        "created_at": datetime.fromisoformat,
        "expires_at": datetime.fromisoformat,
        "last_used_at": datetime.fromisoformat,
    }


@dataclass(frozen=True, kw_only=True)
class DeploymentEvent(Record):
    """One entry of a deployment's history: ``deployed``, ``updated``, ``scaled`` and so on."""

    event_type: str
    id: str | None = None
    event_data: dict[str, Any] | None = None
    status_before: str | None = None
    status_after: str | None = None
    created_by_user_id: str | None = None
    created_at: datetime | None = None

    parsers = {"created_at": datetime.fromisoformat}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class LogEntry(Record):
    """A log entry of an inference server about a deployment."""

    at: datetime
    level: str
    message: str
    event: str | None = None
    server: str | None = None
    details: dict[str, Any] | None = None

    parsers = {"at": datetime.fromisoformat}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class Usage(Record):
    """Counts of one member in the hour or day that begins ``at``, or in total.

    ``client_errors`` are responses of 400 to 499, ``errors`` those of 500 and more. ``latency_ms`` has the
    percentiles ``p50``, ``p95`` and ``p99`` of whole requests at the server; ``inference_time_ms`` is the
    total time in the model.
    """

    requests: int
    client_errors: int = 0
    errors: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    inference_time_ms: float = 0
    latency_ms: dict[str, float | None] = field(default_factory=dict)
    at: datetime | None = None
    member: str | None = None
    model_version: str | None = None

    parsers = {"at": datetime.fromisoformat}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class DeploymentUsage(Record):
    """``usage`` by time, member and version, and their ``total``.

    ``quota`` is what remains of the owner's monthly quota, ``price`` an estimate; each is None if there is
    none or the caller may not see it.
    """

    usage: tuple[Usage, ...]
    total: Usage
    deployment_id: str | None = None
    granularity: str | None = None
    quota: dict[str, Any] | None = None
    price: dict[str, Any] | None = None

    parsers = {  # noqa: RUF012
        "usage": lambda rows: tuple(map(Usage.from_json, rows)),
        "total": Usage.from_json,
    }
