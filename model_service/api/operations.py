"""/health, /metrics and the OpenAPI document: what operators and tools ask for."""

from datetime import UTC, datetime
from typing import Any, cast

from flask import Blueprint, Response, current_app, redirect
from flask_openapi3 import APIBlueprint, OpenAPI, Tag
from werkzeug.wrappers import Response as WerkzeugResponse

from model_service import __version__
from model_service.api.context import answer, services
from model_service.api.schemas.operations import Health
from model_service.metrics import CONTENT_TYPE, exposition

api = APIBlueprint("operations", __name__, abp_tags=[Tag(name="operations")])
documents = Blueprint("documents", __name__)


@api.get("/health", responses={200: Health, 503: Health})
def health() -> Response:
    """Whether the service can do its work; 503 when it cannot."""
    found = services().health.check()
    body = Health(
        status="healthy" if found.healthy else "unhealthy",
        version=__version__,
        mongodb_connected=found.mongodb_connected,
        gridfs_available=found.gridfs_available,
        redis_connected=found.redis_connected,
        total_models=found.total_models,
        timestamp=datetime.now(UTC),
    )
    return answer(body, 200 if found.healthy else 503)


@api.get("/metrics")
def metrics() -> Response:
    """Prometheus metrics of every process of this server."""
    return Response(exposition(), content_type=CONTENT_TYPE)


@documents.get("/")
def home() -> WerkzeugResponse:
    return redirect("/docs/scalar")


@documents.get("/openapi.json")
def openapi() -> Any:
    return cast(OpenAPI, current_app).api_doc
