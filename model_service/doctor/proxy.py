"""The way from a public URL to the service: what a proxy in between rejects, stores or ends too early.

The requests need no key. Each announces a body of which only the beginning is sent, so that they cost the
service nothing: it rejects them before it reads the body.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from http.client import InvalidURL

from model_service.config import Settings
from model_service.doctor.findings import Finding, Setup, Status, error, ok, size, warning
from model_service.doctor.partial_request import Ended, Response, send

_LINES = "See docs/hosts.md#nginx"
_UPLOAD = "/api/v1/models/000000000000000000000000/upload"
_SIGN_IN = "/api/v1/sessions"
# More than the service reads before it responds; the second is below the limit of every proxy's default.
_SENT = bytes(128 * 1024)
_SHORT_BYTES = 512 * 1024
_RESPONSE_S = 8.0
_PAUSE_S = 2.0  # between two bytes of a slow body
_TOO_LARGE = 413


def check(setup: Setup) -> Iterator[Finding]:
    url, settings = str(setup.url), setup.settings
    try:
        alive = send(url, "GET", "/health/live", timeout_s=_RESPONSE_S)
    except ssl.SSLCertVerificationError as exc:
        advice = "Correct it, or set SSL_CERT_FILE to the file of your certificate authority"
        yield error("proxy", f"{url}: the certificate is not trusted: {exc.verify_message}. {advice}")
        return
    except OSError as exc:
        yield error(
            "proxy", f"{url} does not respond: {_reason(exc)}. Correct the address, or start the proxy"
        )
        return
    except (ValueError, InvalidURL) as exc:
        yield error("proxy", f"{url} is not a URL: {exc}. Correct the address")
        return
    if alive is None or alive.status != 200 or not str(alive.field("service")).startswith("model-service"):
        yield _not_ours(url, alive)
        return
    yield ok("proxy", f"{url} leads to the service")
    yield from _headers(url, alive, settings)
    yield _found("proxy-metrics", _metrics, url)
    yield _found("proxy-body-size", _body_size, url, settings.max_file_size)
    streams = _found("proxy-streaming", _streams, url)
    yield streams
    if streams.status is Status.OK:
        yield _found("proxy-timeout", _slow_body, url, settings.body_grace_s)


def _found(name: str, check: Callable[..., Finding], *given: object) -> Finding:
    """Return the finding of the check; an error if its request fails, so that the next check still runs."""
    try:
        return check(name, *given)
    except OSError as exc:
        return error(name, f"the request fails: {_reason(exc)}. Look at the log of the proxy")


def _reason(exc: OSError) -> str:
    return str(exc.strerror or exc or type(exc).__name__)


def _not_ours(url: str, response: Response | None) -> Finding:
    if response is None:
        return error("proxy", f"{url} does not respond within {_RESPONSE_S:g} s. Check its upstream")
    if response.status in (502, 503, 504):
        return error(
            "proxy", f"{url}: the proxy does not reach the service ({response.status}). Check its upstream"
        )
    return error(
        "proxy",
        f"{url}/health/live returns {response.status}, not the response of the service. Check the path, "
        f"which the proxy must remove. {_LINES}",
    )


def _headers(url: str, alive: Response, settings: Settings) -> Iterator[Finding]:
    """Check the settings by which the service knows its proxy. A response of the service itself has none."""
    if alive.server == "granian":
        return
    if settings.public_url is not None and settings.public_url != url.rstrip("/"):
        yield warning(
            "proxy-url",
            f"PUBLIC_URL={settings.public_url} differs from {url}: URLs in responses begin with PUBLIC_URL. "
            "Set it to the address that clients use",
        )
    if settings.trusted_proxies == 0:
        yield warning(
            "proxy-address",
            "TRUSTED_PROXIES=0, and a proxy responds: all clients share the request limits of its address. "
            "Set it to the number of proxies",
        )


def _metrics(name: str, url: str) -> Finding:
    try:
        found = send(url, "GET", "/metrics", timeout_s=_RESPONSE_S)
    except Ended:  # one way to block it
        found = None
    if found is not None and found.status == 200:
        return warning(
            name,
            f"{url}/metrics is public, and shows the names and the traffic of all deployments. Block it. "
            f"{_LINES}",
        )
    return ok(name, "/metrics is not public")


def _body_size(name: str, url: str, most: int) -> Finding:
    body = f"a body of {size(most)} (MAX_FILE_SIZE)"
    found = send(url, "POST", _UPLOAD, announced=most, body=_SENT, timeout_s=_RESPONSE_S)
    if found is None:
        return warning(name, f"no response to {body}: see proxy-streaming")
    if found.is_ours:
        return ok(name, f"{body} reaches the service")
    if found.status == _TOO_LARGE:
        return error(
            name,
            f"the proxy rejects {body} with 413. Raise its limit (nginx: client_max_body_size 0). {_LINES}",
        )
    return error(name, f"the proxy answers {body} with {found.status}. Allow large uploads in it. {_LINES}")


def _streams(name: str, url: str) -> Finding:
    """Send the beginning of a body. A proxy that forwards it at once also forwards the response."""
    found = send(url, "POST", _UPLOAD, announced=_SHORT_BYTES, body=_SENT, timeout_s=_RESPONSE_S)
    if found is None:
        return warning(
            name,
            "the proxy stores a whole upload before it forwards the first byte, so that uploads take "
            f"twice as long and fill its disk. Turn that off (nginx: proxy_request_buffering off). {_LINES}",
        )
    if found.is_ours:
        return ok(name, "uploads are forwarded while they arrive")
    return warning(
        name, f"the proxy answers an upload with {found.status}: its streaming is unknown. {_LINES}"
    )


def _slow_body(name: str, url: str, grace_s: float) -> Finding:
    """Send a body one byte at a time, until the service ends the request after BODY_GRACE_S."""
    began = time.monotonic()
    # The service spreads the ends of many slow requests over half of that time.
    longest_s = 1.5 * grace_s + _RESPONSE_S
    ours = False
    try:
        found = send(url, "POST", _SIGN_IN, announced=1000, pause_s=_PAUSE_S, timeout_s=longest_s)
        if found is None:
            silent = f"a slow request gets no response within {longest_s:.0f} s"
            return error(name, f"{silent}. Look at the log of the proxy")
        ours = found.is_ours
    except Ended:
        pass
    took = f"{time.monotonic() - began:.0f} s"
    if ours:
        return ok(
            name,
            f"a request may take {took}; longer ones were not tried. For large uploads allow 600 s. {_LINES}",
        )
    return warning(
        name, f"the proxy ends a slow request after {took}. Allow 600 s between two reads or writes. {_LINES}"
    )
