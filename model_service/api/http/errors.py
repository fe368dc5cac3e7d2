"""The only place that converts an error to a response."""

from collections.abc import Iterable
from typing import NoReturn

import structlog
from flask import Flask, Response, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from model_service.api.http.context import answer, context
from model_service.api.http.policy import reads
from model_service.api.http.request_body import JSONRequest
from model_service.api.http.request_id import request_id
from model_service.api.schemas.common import Error, ErrorBody, unknown_field
from model_service.errors import (
    DiskFull,
    ExportLimitReached,
    InvalidField,
    InvalidJSON,
    ModelServiceError,
    RangeNotSatisfiable,
    RateLimited,
    ServiceFailure,
    ServiceUnavailable,
    Unauthorized,
    UnsupportedEncoding,
    is_disk_full,
)
from model_service.sentences import explain

log = structlog.get_logger(__name__)

_HTTP_HINTS = {
    404: "there is no such route; /docs lists all routes.",
    405: "this route does not support that method; /docs lists the methods.",
    413: "the JSON body is too large.",
}


def register_error_handlers(app: Flask, *, connection_errors: Iterable[type[Exception]]) -> None:
    app.register_error_handler(ModelServiceError, _respond)
    app.register_error_handler(HTTPException, _respond_to_http)
    for kind in connection_errors:
        app.register_error_handler(kind, _respond_to_lost_connection)
    app.register_error_handler(OSError, _respond_to_a_local_failure)
    app.register_error_handler(Exception, _respond_to_the_unexpected)


def _respond(error: ModelServiceError) -> Response:
    body = ErrorBody(code=error.code, message=error.message, details=error.details)
    response = answer(Error(error=body, request_id=request_id()), error.status)
    match error:
        case ServiceUnavailable() | RateLimited() | ExportLimitReached():
            response.headers["Retry-After"] = str(error.retry_after_s)
        case RangeNotSatisfiable():
            response.headers["Content-Range"] = f"bytes */{error.details['size_bytes']}"
        case UnsupportedEncoding():
            response.headers["Accept-Encoding"] = "identity"
        case Unauthorized():
            response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _respond_to_http(error: HTTPException) -> Response:
    """Convert Flask's own errors: an unknown route, a wrong method."""
    hint = _HTTP_HINTS.get(error.code or 500) or error.description
    body = ErrorBody(
        code=error.name.lower().replace(" ", "_"),
        message=f"{request.method} {request.path[:200]}: {hint}",
        details={},
    )
    response = answer(Error(error=body, request_id=request_id()), error.code or 500)
    for name, value in error.get_headers():
        if name == "Allow":
            response.headers[name] = value
    return response


def _respond_to_lost_connection(error: Exception) -> Response:
    log.warning("mongodb.unreachable", error=str(error))
    doubt = "." if reads(request) else "; the change may or may not have been made."
    return _respond(ServiceUnavailable(f"The database is unreachable{doubt}"))


def _respond_to_a_local_failure(error: OSError) -> Response:
    if not is_disk_full(error):
        return _respond_to_the_unexpected(error)
    log.error("disk.full", path=request.path, exc_info=error)
    settings = context().settings
    return _respond(DiskFull("The API's disk", 0, settings.disk_min_free))


def _respond_to_the_unexpected(error: Exception) -> Response:
    log.error("request.failed", path=request.path, exc_info=error)
    return _respond(
        ServiceFailure("An internal error occurred. The service's log has the cause under the request id.")
    )


def refuse_invalid_request(error: ValidationError) -> NoReturn:
    """Convert pydantic's errors on path, query or body, for flask-openapi3.

    Raises:
        InvalidJSON: there is no body, but it has required fields.
        InvalidField: with the name of each wrong field.
    """
    problems = error.errors(include_url=False, include_input=False)
    if isinstance(request, JSONRequest) and request.body_is_absent:
        raise InvalidJSON(
            "The request has no body: send a JSON object, with 'Content-Type: application/json'."
        )
    fields = [
        {
            "field": ".".join(map(str, problem["loc"])) or "body",
            "message": unknown_field(error.title, problem["loc"])
            if problem["type"] == "extra_forbidden"
            else explain(problem),
        }
        for problem in problems
    ]
    message = "; ".join(f"{field['field']}: {field['message']}" for field in fields)
    raise InvalidField(f"{message}.", fields)
