"""An id for every request: the caller's where it sent a sane one, in every answer and log line."""

import re
import uuid

import structlog
from flask import Flask, Response, g, request

HEADER = "X-Request-ID"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id() -> str:
    if "request_id" not in g:
        g.request_id = sane_id(request.headers.get(HEADER, ""))
    return str(g.request_id)


def sane_id(sent: str) -> str:
    """The client's id, or a new one."""
    return sent if _SANE.fullmatch(sent) else str(uuid.uuid4())


def register_request_id(app: Flask) -> None:
    @app.before_request
    def bind() -> None:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id())

    @app.after_request
    def echo(response: Response) -> Response:
        response.headers[HEADER] = request_id()
        return response
