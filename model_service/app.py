"""The registry's application factory, which only connects the parts."""

import time

from flask import Flask, Response, g, request
from flask_openapi3 import Info, OpenAPI

from model_service import __version__
from model_service.api.access import audit, keys, sessions, users
from model_service.api.datasets import datasets
from model_service.api.datasets import files as dataset_files
from model_service.api.deployments import actions as deployment_actions
from model_service.api.deployments import deployments
from model_service.api.deployments import keys as deployment_keys
from model_service.api.deployments import usage as deployment_usage
from model_service.api.evaluations import evaluations
from model_service.api.exports import by_model as exports_of
from model_service.api.exports import callbacks as export_callbacks
from model_service.api.exports import capabilities, exports
from model_service.api.exports import events as export_events
from model_service.api.files import files, part_uploads
from model_service.api.gates import approvals, gates
from model_service.api.http.access_log import register_access_log, route
from model_service.api.http.auth import register_auth
from model_service.api.http.context import EXTENSION, Context
from model_service.api.http.cors import register_cors
from model_service.api.http.disk import register_disk
from model_service.api.http.errors import refuse_invalid_request, register_error_handlers
from model_service.api.http.json_provider import OrjsonProvider
from model_service.api.http.limits import register_limits
from model_service.api.http.policy import check_policies
from model_service.api.http.request_body import JSONRequest, register_encodings, register_text
from model_service.api.http.request_id import register_request_id
from model_service.api.http.signed import register_signed
from model_service.api.http.trace import register_trace
from model_service.api.http.transfers import StreamSlots, TransferSlots
from model_service.api.http.urls import accept_slashes, register_fixed_paths, trust_proxies
from model_service.api.models import (
    aliases,
    batch,
    lineage,
    models,
    namespaces,
    registry,
    search,
    statistics,
    trash,
)
from model_service.api.models.presentation import PRESENTED, PresentedModels
from model_service.api.models.references import register_references
from model_service.api.operations import operations
from model_service.api.operations.document import register_apis, register_pages
from model_service.api.operations.reference import DESCRIPTION, TITLE
from model_service.api.schemas.common import Error
from model_service.api.training import jobs as training_jobs
from model_service.api.webhooks import deliveries as webhook_deliveries
from model_service.api.webhooks import webhooks
from model_service.config import Settings
from model_service.metrics import REQUEST_DURATION, REQUESTS
from model_service.services import build_services
from model_service.storage.common.db import CONNECTION_ERRORS, Database
from model_service.storage.migrations import prepare
from model_service.storage.models.hot_models import settle
from model_service.storage.stores import build_stores
from model_service.tracing.http import METHODS

_RESOURCES = (
    models,
    aliases,
    gates,
    approvals,
    trash,
    batch,
    lineage,
    files,
    part_uploads,
    search,
    statistics,
    training_jobs,
    datasets,
    dataset_files,
    exports,
    export_callbacks,
    export_events,
    exports_of,
    capabilities,
    evaluations,
    deployments,
    deployment_actions,
    deployment_keys,
    deployment_usage,
    operations,
    registry,
    users,
    sessions,
    keys,
    namespaces,
    audit,
    webhooks,
    webhook_deliveries,
)
# Limit of a JSON body. An upload is read as a stream, up to MAX_FILE_SIZE.
MAX_JSON_BYTES = 1024 * 1024


def create_app(settings: Settings) -> Flask:
    """Create the WSGI application with its own connection to MongoDB."""
    app = OpenAPI(
        __name__,
        info=Info(title=TITLE, description=DESCRIPTION, version=__version__),
        doc_prefix="/docs",
        validation_error_callback=refuse_invalid_request,
        validation_error_model=Error,
        static_folder=None,
        security_schemes={
            "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        },
        openapi_extensions={"security": [{"api_key": []}, {"bearer": []}]} if settings.enable_auth else None,
    )
    app.json = OrjsonProvider(app)
    app.request_class = JSONRequest
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    database = Database(settings)
    prepare(database)
    stores = build_stores(database, settings)
    app.extensions[EXTENSION] = Context(
        settings,
        build_services(settings, stores),
        TransferSlots(settings.api_threads),
        StreamSlots(settings.api_threads),
    )
    app.extensions[PRESENTED] = PresentedModels()
    accept_slashes(app)
    trust_proxies(app, settings.trusted_proxies)
    register_references(app)
    register_trace(app)  # before all others, so that its function after a request runs last
    register_request_id(app)
    _register_metrics(app)
    _register_settling(app)
    register_access_log(app)
    register_text(app)
    register_encodings(app)
    register_signed(app)
    register_auth(app, settings)
    register_limits(app, settings, lambda: stores.secrets.redis_prefix)
    register_cors(app, settings)
    register_disk(app)
    register_error_handlers(app, connection_errors=CONNECTION_ERRORS)
    register_pages(app)
    register_apis(app, [resource.api for resource in _RESOURCES] + [operations.diagnostics])
    app.register_blueprint(operations.documents)
    register_fixed_paths(app)
    check_policies(app)
    return app


def _register_metrics(app: Flask) -> None:
    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def count(response: Response) -> Response:
        endpoint = route()
        method = request.method if request.method in METHODS else "other"
        REQUESTS.labels(endpoint=endpoint, method=method, status=response.status_code).inc()
        REQUEST_DURATION.labels(endpoint=endpoint, method=method).observe(time.perf_counter() - g.started)
        return response


def _register_settling(app: Flask) -> None:
    @app.after_request
    def wait_until_nobody_is_stale(response: Response) -> Response:
        if request.method not in {"GET", "HEAD"}:
            settle()
        return response
