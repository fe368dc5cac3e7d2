"""HTTP requests to addresses that users choose, which must not reach the network of the service.

The host's name is resolved once, every address of it is checked, and the connection goes to a checked one.
So a name that resolves to another address later is no way around the check. Redirects are not followed, and
the environment's proxies are not used.
"""

import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import SplitResult, urlsplit

from model_service.config_types import Network

MAX_URL = 2048
# What is read and kept of a response's body.
ANSWER_BYTES = 1000
_CONNECT_S = 5.0
_PORTS = {"http": 80, "https": 443}
# Not external, though the standard library says so: https://www.iana.org/assignments/iana-ipv4-special-registry
_SPECIAL = (ipaddress.IPv4Network("192.0.0.0/24"), ipaddress.IPv6Network("3fff::/20"))
_UNICAST = ipaddress.IPv6Network("2000::/3")  # all global unicast addresses that are assigned
# Networks whose addresses contain an IPv4 address, and where it begins: 6to4 and NAT64.
_CARRIERS = {ipaddress.IPv6Network("2002::/16"): 16, ipaddress.IPv6Network("64:ff9b::/96"): 96}
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], list[str]]


class TooLate(Exception):
    """The time until which the request could be sent has passed. Nothing was sent."""


class Refused(Exception):
    """The address must not be used; the message says why. Nothing was sent."""


@dataclass(frozen=True)
class Response:
    status: int
    text: str  # the beginning of the body


def resolve(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host. Raises: OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:  # an empty label, or one of more than 63 letters
        raise OSError(f"{host} is not a host name") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_url(url: str) -> SplitResult:
    """Check the form of a URL. Raises: ValueError: one sentence."""
    if len(url) > MAX_URL or not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
        raise ValueError(f"a URL of up to {MAX_URL} ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("a URL like https://example.com/events") from None
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise ValueError("a URL like https://example.com/events")
    if "@" in parts.netloc or parts.fragment:
        raise ValueError("a URL without a user, a password and a fragment")
    return parts


def checked_addresses(
    url: str, allowed: Sequence[Network], resolved: Resolve = resolve
) -> tuple[SplitResult, list[str]]:
    """Resolve the URL's host. Returns the URL's parts and the addresses, each of which may be used.

    Args:
        allowed: networks of internal addresses that may be used, also without TLS.

    Raises:
        Refused: the URL is malformed, an address is internal, or an external one is used without TLS.
        OSError: the name cannot be resolved.
    """
    try:
        parts = checked_url(url)
    except ValueError as exc:
        raise Refused(f"The URL is not {exc}.") from None
    host = parts.hostname or ""
    addresses = resolved(host, parts.port or _PORTS[parts.scheme])
    if not addresses:
        raise OSError(f"{host} has no address")
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if any(address in network for network in allowed if network.version == address.version):
            continue
        if not _is_external(address):
            raise Refused(
                f"{host} is an internal address, or resolves to one. An administrator can allow its network "
                "in WEBHOOK_ALLOWED_NETWORKS."
            )
        if parts.scheme != "https":
            raise Refused(f"{host} is an external host: use https.")
    return parts, addresses


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allowed: Sequence[Network],
    timeout_s: float,
    latest: float | None = None,
    resolved: Resolve = resolve,
) -> Response:
    """Send a POST request to a checked address, and return the beginning of the response.

    Args:
        timeout_s: for the whole exchange after the name's resolution.
        latest: monotonic time after which nothing may be sent; None: at any time.

    Raises:
        Refused: see ``checked_addresses``. TooLate.
        OSError, HTTPException: no response in time.
    """
    parts, addresses = checked_addresses(url, allowed, resolved)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    ends = time.monotonic() + timeout_s
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    with _connected(addresses, port, ends) as connected, connected.dup() as same:
        # A timeout of a socket is one of each read: a response of one byte a second would never end.
        watchdog = threading.Timer(_left(ends), _shut, [same])
        watchdog.daemon = True
        watchdog.start()
        try:
            connected.settimeout(_left(ends))
            connection = HTTPConnection(host, port)
            connection.sock = (
                _tls().wrap_socket(connected, server_hostname=host) if _secure(parts) else connected
            )
            try:
                if latest is not None and time.monotonic() >= latest:
                    raise TooLate
                connection.request(
                    "POST", target, body, {**headers, "Host": parts.netloc, "Connection": "close"}
                )
                with connection.getresponse() as response:
                    status, text = response.status, _beginning(response)
            finally:
                connection.close()
        except (OSError, HTTPException) as exc:
            if time.monotonic() >= ends:
                raise TimeoutError(f"no complete response within {timeout_s:g} s") from exc
            raise
        finally:
            watchdog.cancel()
    return Response(status, text)


def _beginning(response: HTTPResponse) -> str:
    try:
        return response.read(ANSWER_BYTES).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return ""  # the status is what counts


def _secure(parts: SplitResult) -> bool:
    return parts.scheme == "https"


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _connected(addresses: Sequence[str], port: int, ends: float) -> socket.socket:
    """Connect to the first address that accepts. Raises: OSError, of the last one."""
    for number, address in enumerate(addresses, start=1):
        try:
            return socket.create_connection((address, port), timeout=min(_CONNECT_S, _left(ends)))
        except OSError:
            if number == len(addresses):
                raise
    raise AssertionError  # there is at least one


def _left(ends: float) -> float:
    return max(0.001, ends - time.monotonic())


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        connected.shutdown(socket.SHUT_RDWR)


def _is_external(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_external(address.ipv4_mapped)
        for network, begins in _CARRIERS.items():
            if address in network:
                inner = int(address) >> (128 - begins - 32) & 0xFFFFFFFF
                return _is_external(ipaddress.IPv4Address(inner))
        if address not in _UNICAST:
            return False
    special = any(address in network for network in _SPECIAL if network.version == address.version)
    return address.is_global and not (address.is_multicast or address.is_reserved or special)
