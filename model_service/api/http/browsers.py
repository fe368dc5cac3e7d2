"""What pages of others may not do with a service that asks nobody who they are.

Anyone who reaches it can use it, and a browser on its machine does, on behalf of any page that is open there.
CORS keeps a page from reading answers, not from sending: a form, or a body of plain text, is sent without a
question. And a page whose name comes to mean 127.0.0.1 (DNS rebinding) is no other page to the browser: it
reads everything. What gives them away is in the request: ``Origin``, and the name in ``Host``.
"""

from urllib.parse import urlsplit

from flask import Request

from model_service.config import Settings, is_loopback
from model_service.errors import NotPermitted

_READING = frozenset({"GET", "HEAD"})


def require_no_other_page(request: Request, settings: Settings) -> None:
    """Only where there is no credential: a page of others has none, and none is added by the browser.

    Raises:
        NotPermitted: a page sent it that is neither ours nor one of CORS_ORIGINS, or asked for this machine
            by a name that is not its own.
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
