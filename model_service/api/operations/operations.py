"""/health, /metrics and the OpenAPI document, for operators and tools."""

from datetime import UTC, datetime
from typing import Any, cast

from flask import Blueprint, Response, current_app, redirect
from flask_openapi3 import APIBlueprint, OpenAPI, Tag
from werkzeug.wrappers import Response as WerkzeugResponse

from model_service import __version__
from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import Caller, policy
from model_service.api.http.urls import link
from model_service.api.operations.document import openapi_document
from model_service.api.schemas.operations import (
    Alive,
    DetailedHealth,
    Health,
    HealthMetrics,
    InferenceServer,
    ModelHost,
    Worker,
)
from model_service.metrics import CONTENT_TYPE, exposition
from model_service.services.operations.health import Checks

api = APIBlueprint("operations", __name__, abp_tags=[Tag(name="operations")])
# It names models and workers, so it needs a key, as the other routes here do not.
diagnostics = APIBlueprint("diagnostics", __name__, abp_tags=[Tag(name="operations")])
documents = Blueprint("documents", __name__)


@api.get("/health", responses={200: Health, 503: Health})
@policy(Caller.ANYONE)
def health() -> Response:
    """Check whether the service can work.

    200 or 503: MongoDB, GridFS and Redis. Needs no credential.
    """
    found = services().health.check()
    body = Health(
        status="healthy" if found.healthy else "unhealthy",
        version=__version__,
        mongodb_connected=found.mongodb_connected,
        gridfs_available=found.gridfs_available,
        redis_connected=found.redis_connected,
        accepts_writes=found.accepts_writes,
        total_models=found.total_models,
        timestamp=datetime.now(UTC),
    )
    return answer(body, 200 if found.healthy else 503)


@api.get("/health/live", responses={200: Alive})
@policy(Caller.ANYONE)
def live() -> Response:
    """Check whether this process responds.

    Does not check MongoDB or Redis: restarting this process would not repair them. Needs no credential.
    """
    return answer(Alive(status="alive"))


@api.get("/health/ready", responses={200: Alive, 503: Alive})
@policy(Caller.ANYONE)
def ready() -> Response:
    """Check whether requests can be sent here.

    503 while MongoDB cannot be reached. Needs no credential.
    """
    if services().health.ready():
        return answer(Alive(status="ready"))
    return answer(Alive(status="unavailable"), 503)


@diagnostics.get("/health/detailed", responses={200: DetailedHealth, 503: DetailedHealth})
@policy(Permission.READ, everywhere=True, rate="uncounted")
def detailed_health() -> Response:
    """Read the state of every part of the service.

    `checks` and `issues` for each part; workers and inference servers with their sandboxes; the last sweep
    and the last verification. 503 if the service cannot work. Needs a credential with read permission in all
    namespaces.
    """
    found = services().health.detailed()
    return answer(_detailed(found), 503 if found.status == "unhealthy" else 200)


def _detailed(found: Checks) -> DetailedHealth:
    stored = found.stored_bytes
    return DetailedHealth(
        version=__version__,
        status=found.status,
        timestamp=datetime.now(UTC),
        checks=found.checks,
        metrics=HealthMetrics(
            total_models=found.total_models,
            active_models=found.active_models,
            storage_usage_gb=None if stored is None else round(stored / 1024**3, 6),
        ),
        issues=found.issues,
        workers=[
            Worker(name=worker["_id"], last_seen=worker["at"], sandbox=worker["sandbox"])
            for worker in found.workers
        ],
        inference_servers=[
            InferenceServer(
                name=server["_id"],
                last_seen=server["at"],
                model_hosts=[ModelHost.model_validate(host) for host in server.get("model_hosts", [])],
            )
            for server in found.inference_servers
        ],
        last_sweep=None if found.last_sweep is None else {**found.last_sweep},
        last_verify=None if found.last_verify is None else {**found.last_verify},
    )


_TEXT = {"schema": {"type": "string"}, "example": 'model_service_logins_total{outcome="opened"} 2.0'}


@api.get("/metrics", responses={200: {"content": {CONTENT_TYPE: _TEXT}}})
@policy(Caller.ANYONE)
def metrics() -> Response:
    """Read Prometheus metrics.

    Counts for all processes of this server, in the text format of Prometheus. Needs no credential.
    """
    return Response(exposition(services().health.gauges()), content_type=CONTENT_TYPE)


@documents.get("/")
@policy(Caller.ANYONE)
def home() -> WerkzeugResponse:
    return redirect(link("/docs/scalar"))


@documents.get("/openapi.json")
@policy(Caller.ANYONE)
def openapi() -> Any:
    return openapi_document(cast(OpenAPI, current_app))
