"""Protection against foreign web pages when the service requires no credential.

Without credentials, anyone who reaches the service can use it, and so can a browser on its machine for any
page that is open there. CORS prevents a page from reading responses but not from sending requests: forms and
plain-text bodies are sent without a preflight. And with DNS rebinding, a foreign page can have a host name
that resolves to 127.0.0.1, and read responses too. Such requests are recognised by ``Origin`` and by the name
in ``Host``.
"""

from urllib.parse import urlsplit

from flask import Request

from model_service.config import Settings, is_loopback
from model_service.errors import NotPermitted

_READING = frozenset({"GET", "HEAD"})


def require_no_other_page(request: Request, settings: Settings) -> None:
    """Reject requests of foreign pages. Only needed without credentials, since a browser adds none by itself.

    Raises:
        NotPermitted: ``Origin`` is neither this service nor in CORS_ORIGINS, or ``Host`` is not a name of
            this machine.
    """
    host = urlsplit(f"//{request.host}").hostname or ""
    if not settings.allow_anonymous and not is_loopback(host):
        raise NotPermitted(
            "Without authentication, this service accepts requests from its own machine only, and "
            f"the Host of this request is {host[:100]!r}: use 'localhost', set ENABLE_AUTH=true, or "
            "set ALLOW_ANONYMOUS=true to let anybody in."
        )
    origin = request.headers.get("Origin")
    if origin is None or request.method in _READING:
        return
    allowed = settings.allowed_origins
    own = {request.host}
    if settings.public_url is not None:
        own.add(urlsplit(settings.public_url).netloc)
    if origin not in allowed and "*" not in allowed and urlsplit(origin).netloc not in own:
        raise NotPermitted(
            f"Pages of {origin[:100]!r} may not change anything here: add the origin to "
            "CORS_ORIGINS to allow it."
        )
