"""The ids of every request, in its log lines: its own id, which responses have too, and that of its trace.

Each is the client's if it is valid, otherwise a new one.
"""

import re
import uuid

import structlog
from flask import Flask, Response, g, request

from model_service import tracing
from model_service.tracing.context import CURRENT
from model_service.tracing.http import NAME

HEADER = "X-Request-ID"
# Probes and scrapes repeat all day: their spans would hide the others.
_UNRECORDED = ("/health", "/metrics")
_VALID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id() -> str:
    if "request_id" not in g:
        g.request_id = valid_id(request.headers.get(HEADER, ""))
    return str(g.request_id)


def valid_id(sent: str) -> str:
    """Return the client's id if it is valid, otherwise a new one."""
    return sent if _VALID.fullmatch(sent) else str(uuid.uuid4())


def register_request_id(app: Flask) -> None:
    @app.before_request
    def bind() -> None:
        recorded = tracing.is_exporting() and not request.path.startswith(_UNRECORDED)
        traceparent = request.environ.get("HTTP_TRACEPARENT")
        g.span = span = tracing.begin(NAME, traceparent, "server", recorded=recorded)
        CURRENT.set(span.context)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id(), trace_id=span.context.trace_id)

    @app.after_request
    def echo(response: Response) -> Response:
        response.headers[HEADER] = request_id()
        return response
