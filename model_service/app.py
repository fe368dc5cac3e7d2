"""The registry's application: built here, ruled elsewhere."""

import time

from flask import Flask, Response, g, request
from flask_openapi3 import Info, OpenAPI

from model_service import __version__
from model_service.api import deployments, exports, models, operations
from model_service.api.auth import register_auth
from model_service.api.context import EXTENSION, Context
from model_service.api.errors import refuse_invalid_request, register_error_handlers
from model_service.api.json_provider import OrjsonProvider
from model_service.api.request_id import register_request_id
from model_service.api.schemas.common import Error
from model_service.api.transfers import TransferSlots
from model_service.config import Settings
from model_service.metrics import REQUEST_DURATION, REQUESTS
from model_service.services import build_services
from model_service.storage.db import CONNECTION_ERRORS, Database

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
# Of a JSON body; an upload reads its own stream, up to MAX_FILE_SIZE.
MAX_JSON_BYTES = 1024 * 1024


def create_app(settings: Settings) -> Flask:
    """The WSGI application over its own connection to MongoDB."""
    app = OpenAPI(
        __name__,
        info=Info(title="Model Service", version=__version__),
        doc_prefix="/docs",
        validation_error_callback=refuse_invalid_request,
        validation_error_model=Error,
        static_folder=None,
        security_schemes={"api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        openapi_extensions={"security": [{"api_key": []}]} if settings.enable_auth else None,
    )
    app.json = OrjsonProvider(app)
    app.config["OPENAPI_HTML_STRING"] = '<meta http-equiv="refresh" content="0; url=scalar">'  # the one page
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    database = Database(settings)
    app.extensions[EXTENSION] = Context(
        settings, build_services(settings, database), TransferSlots(settings.api_threads)
    )
    register_request_id(app)
    _register_metrics(app)
    register_auth(app, settings)
    register_error_handlers(app, connection_errors=CONNECTION_ERRORS)
    for resource in (models, exports, deployments, operations):
        app.register_api(resource.api)
    app.register_blueprint(operations.documents)
    database.ensure_indexes()
    return app


def _register_metrics(app: Flask) -> None:
    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        endpoint = request.url_rule.rule if request.url_rule else "unmatched"
        method = request.method if request.method in _METHODS else "other"
        REQUESTS.labels(endpoint=endpoint, method=method, status=response.status_code).inc()
        REQUEST_DURATION.labels(endpoint=endpoint, method=method).observe(time.perf_counter() - g.started)
        return response
