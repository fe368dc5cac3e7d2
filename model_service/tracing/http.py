"""The span of an HTTP request, with the names of OpenTelemetry.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/. The query is no attribute, because signed URLs
have their signatures in it.
"""

from collections.abc import Callable

from model_service.tracing.spans import Span

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NAME = "HTTP"  # until the route is known


def answered(
    span: Span, *, method: str, scheme: str, path: str, route: str | None, status: int, request_id: str
) -> Callable[[], None]:
    """Describe the request and its response, and return the function that ends the span.

    Args:
        route: the pattern of the path; None: no route has this path.
    """
    shown = method if method in METHODS else NAME
    span.rename(shown if route is None else f"{shown} {route}")
    span.note(
        {
            "http.request.method": method if method in METHODS else "_OTHER",
            "url.scheme": scheme,
            "url.path": path,
            "http.response.status_code": status,
            "http.response.header.x-request-id": [request_id],
            **({} if route is None else {"http.route": route}),
        }
    )
    return lambda: span.end(error=str(status) if status >= 500 else None)
