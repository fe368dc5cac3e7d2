"""Construction of all URLs that the service returns.

With PUBLIC_URL, they begin with that address. Without it, they begin with the address that the client used:
that of the request, or the one that the proxies counted by TRUSTED_PROXIES report in X-Forwarded-Host, -Proto
and -Prefix.
"""

import re
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from flask import Flask, Response, redirect, request
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import RequestRedirect

from model_service.api.http.context import context

# The path of a proxy in a form that is safe in a link; anything else, such as //another.example, is ignored.
_PREFIX = re.compile(r"(/[A-Za-z0-9_~][A-Za-z0-9._~-]*)+")


def accept_slashes(app: Flask) -> None:
    """Accept every route with and without a slash at its end, also those of the documentation pages."""
    app.url_map.strict_slashes = False
    for rule in app.url_map.iter_rules():
        rule.strict_slashes = False
    routed = app.wsgi_app

    def without_slash(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["PATH_INFO"] = environ["PATH_INFO"].rstrip("/") or "/"
        return routed(environ, start_response)

    app.wsgi_app = without_slash  # type: ignore[method-assign]


def register_fixed_paths(app: Flask) -> None:
    """Keep a path without parameters, such as /models/batch, separate from /models/{model_id}.

    A method that the fixed path does not support is a 405, and OPTIONS lists the supported ones.
    """
    methods: dict[str, set[str]] = {}
    for rule in app.url_map.iter_rules():
        if not rule.arguments:
            methods.setdefault(rule.rule, set()).update(rule.methods or ())

    @app.before_request
    def refuse_other_methods() -> None:
        allowed = methods.get(request.path)
        if allowed is not None and request.method not in allowed and request.url_rule is not None:
            raise MethodNotAllowed(sorted(allowed))

    @app.after_request
    def name_its_methods(response: Response) -> Response:
        if request.method == "OPTIONS" and request.path in methods:
            response.headers["Allow"] = ", ".join(sorted(methods[request.path]))
        return response


def trust_proxies(app: Flask, hops: int) -> None:
    """Read the client's address, and the service's own as clients know it, from this number of proxies."""
    if hops:
        fixed = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops, x_prefix=hops)
        app.wsgi_app = fixed  # type: ignore[method-assign]


def link(path: str) -> str:
    """Return a link: a URL with PUBLIC_URL, otherwise the path as the client knows it."""
    return (context().settings.public_url or _prefix()) + path


def absolute(path: str) -> str:
    """Return an absolute URL to a path of the service, which can be given to others."""
    return (context().settings.public_url or f"{request.host_url.rstrip('/')}{_prefix()}") + path


def canonical() -> Response | None:
    """Redirect to the canonical path: ``/health`` for ``//health``; None if the path is canonical."""
    error = request.routing_exception
    if not isinstance(error, RequestRedirect):
        return None
    return redirect(link("/" + error.new_url.removeprefix(request.url_root)), error.code)  # type: ignore[return-value]


def _prefix() -> str:
    root = request.root_path.rstrip("/")
    return root if _PREFIX.fullmatch(root) else ""
