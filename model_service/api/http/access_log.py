"""One log line per request, written when the last byte of the response is sent.

The line has the pattern of the route instead of the path, so that lines can be counted by route. Ids are in
the log lines of the services, with the same ``request_id``.
"""

import re
import time
from functools import cache

import structlog
from flask import Flask, Response, g, request

log = structlog.get_logger(__name__)


def route() -> str:
    """Return the pattern of the request's route as clients know it: ``/api/v1/models/<model_id>``."""
    return _pattern(request.url_rule.rule) if request.url_rule else "unmatched"


@cache
def _pattern(rule: str) -> str:
    """Remove the names of converters from a pattern such as ``<model_ref:model_id>``."""
    return re.sub(r"<\w+:", "<", rule)


def register_access_log(app: Flask) -> None:
    """Register the access log. Needs ``g.started``, a ``time.perf_counter()``."""

    @app.after_request
    def log_request(response: Response) -> Response:
        started: float = g.started
        fields = {
            "method": request.method,
            "route": route(),
            "status": response.status_code,
            "bytes": 0 if request.method == "HEAD" else response.content_length,
        }
        if not response.is_streamed:
            log.info("api_request", **fields, duration_ms=_ms_since(started))
            return response
        bound = structlog.contextvars.get_contextvars()  # the context can belong to another request by then

        def log_end() -> None:
            log.info("api_request", **{**bound, **fields}, duration_ms=_ms_since(started))

        response.call_on_close(log_end)
        return response


def _ms_since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
