"""An id for every request, in every response and log line: the client's own if it is valid, or a new one."""

import re
import uuid

import structlog
from flask import Flask, Response, g, request

HEADER = "X-Request-ID"
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
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id())

    @app.after_request
    def echo(response: Response) -> Response:
        response.headers[HEADER] = request_id()
        return response
