"""The span of every request. ``request_id.py`` begins it, so that log lines have its trace id."""

from flask import Flask, Response, g, request

from model_service import tracing
from model_service.api.http.access_log import route
from model_service.api.http.request_id import request_id
from model_service.tracing import http


def register_trace(app: Flask) -> None:
    """End the span of each request with the last byte of its response, if spans are recorded."""
    if tracing.is_exporting():
        app.after_request(_end)


def _end(response: Response) -> Response:
    span: tracing.Span = g.span
    if not span.is_recorded:
        return response
    end_span = http.answered(
        span,
        method=request.method,
        scheme=request.scheme,
        path=request.path,
        route=route() if request.url_rule else None,
        status=response.status_code,
        request_id=request_id(),
    )
    if response.is_streamed:
        response.call_on_close(end_span)
    else:
        end_span()
    return response
