"""Requests to the service, with the retries that ``retries`` considers safe."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from model_service.client.errors import ConnectionFailed, InvalidArgument, TLSFailed, UnexpectedAnswer
from model_service.client.transport.notices import Watch
from model_service.client.transport.plain_json import encode
from model_service.client.transport.retries import (
    ATTEMPTS,
    IDEMPOTENCY_KEY,
    LONGEST_WAIT_S,
    Failure,
    Tries,
    https_expected,
    is_repeatable,
    refused,
)

_CONNECT_TIMEOUT_S = 10.0
_LEAST_S = 0.001
_UNSENT = (NewConnectionError, ConnectTimeoutError)
BROKEN = (ProtocolError, ReadTimeoutError)
_WHY_UNTRUSTED = re.compile(r"certificate verify failed:? *([^()]+)", re.IGNORECASE)


class Transport:
    """Sends requests; thread-safe. ``timeout_s`` limits each silence of the service, not the whole transfer.

    ``longest_wait_s`` limits the waits for the service's limits in one request.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout_s: float,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidArgument(f"{base_url!r} is not an address like http://127.0.0.1:8084.")
        if "@" in parts.netloc:
            raise InvalidArgument("The address contains a user or password: pass a key as api_key instead.")
        self.base_url = base_url.rstrip("/")
        self.use_key(api_key)
        self.timeout_s = timeout_s
        self.longest_wait_s = longest_wait_s
        self._watch = Watch()
        self._timeout = urllib3.Timeout(connect=min(timeout_s, _CONNECT_TIMEOUT_S), read=timeout_s)
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)

    def close(self) -> None:
        self._pool.clear()

    def use_key(self, key: str | None) -> None:
        """Use a key or a session's token for all later requests; None: send none."""
        self._key = {"X-API-Key": key} if key else {}

    def create(self, url: str, data: Any, idempotency_key: str | None = None) -> dict[str, Any]:
        """Send a POST that creates one object even if it is retried; return the response's JSON object.

        ``idempotency_key`` is for a caller that may send the same request again later; by default a new one
        is used.
        """
        headers = {IDEMPOTENCY_KEY: idempotency_key or secrets.token_hex(16)}
        return self.json("POST", url, data=data, headers=headers)

    def json(
        self,
        method: str,
        url: str,
        *,
        query: Mapping[str, Any] | None = None,
        data: Any = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the response's JSON object. ``data`` is sent as JSON, ``body`` unchanged.

        Raises:
            ClientError: as :meth:`send`; UnexpectedAnswer if the response is not a JSON object.
        """
        sent = dict(headers or {})
        if data is not None:
            body = encode(data)
            sent["Content-Type"] = "application/json"
        if query:
            url = f"{url}?{encode_query(query)}"
        return self.decode(self.send(method, url, headers=sent, body=body))

    def decode(self, response: BaseHTTPResponse) -> dict[str, Any]:
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnexpectedAnswer(
                f"The server at {self.base_url} is not a Model Service: check the address."
            )
        return answer

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Callable[[], Iterable[bytes]] | None = None,
        stream: bool = False,
        timeout_s: float | None = None,
        attempts: int = ATTEMPTS,
        deadline: float | None = None,
    ) -> BaseHTTPResponse:
        """Return a response below 300; with ``stream``, its body is not read yet, and the caller closes it.

        ``timeout_s`` is for a response that takes longer than others. ``deadline``, on the monotonic clock,
        ends everything, including the retries. A ``url`` without a host belongs to the service and gets its
        key; a full address never gets it. A callable ``body`` is called for each try.

        Raises:
            ConnectionFailed: no complete response, after the retries.
            ServiceError: a response of 400 or more, after the retries.
            UnexpectedAnswer: a redirect.
        """
        sent = dict(headers or {})
        if url.startswith("/"):
            url = self.base_url + url
            sent |= self._key
        where = address_of(url)
        tries = Tries(where, attempts=attempts, deadline=deadline, longest_wait_s=self.longest_wait_s)
        while True:
            with self._watch.waiting(f"{method} {where}{urlsplit(url).path}"):
                outcome = self._try(method, url, sent, body, stream, timeout_s, deadline)
            if not isinstance(outcome, Failure):
                return outcome
            time.sleep(tries.pause_s(outcome))

    def _try(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Callable[[], Iterable[bytes]] | None,
        stream: bool,
        timeout_s: float | None,
        deadline: float | None,
    ) -> BaseHTTPResponse | Failure:
        try:
            response = self._pool.request(
                method,
                url,
                headers=headers,
                body=body() if callable(body) else body,
                redirect=False,
                preload_content=not stream,
                timeout=self._timeout_of(timeout_s, deadline),
            )
            if response.status < 300:
                return response
            content = response.data
        except HTTPError as exc:
            in_doubt = method not in {"GET", "HEAD"} and deadline is None
            again = _may_repeat(exc, is_repeatable(method, headers))
            return Failure(_unreachable(url, exc, in_doubt=in_doubt), again)
        return refused(
            method,
            url,
            sent=headers,
            status=response.status,
            answered=response.headers,
            content=content,
            deadline=deadline,
        )

    def _timeout_of(self, timeout_s: float | None, deadline: float | None) -> urllib3.Timeout:
        if deadline is not None:
            left_s = max(deadline - time.monotonic(), _LEAST_S)
            return urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, left_s), read=left_s)
        if timeout_s is not None:
            return urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=timeout_s)
        return self._timeout


def segment(value: str) -> str:
    """Return ``value`` as one segment of a path, so that an id can never reach another route.

    Raises:
        InvalidArgument: empty, or a dot segment, which is removed from URLs.
    """
    if value in {"", ".", ".."}:
        raise InvalidArgument(f"{value!r} is not an id.")
    return quote(value, safe="")


def encode_query(query: Mapping[str, Any]) -> str:
    """Encode a query: lists become ``a,b``, the form of the service's ``tags``; None is left out."""
    return urlencode({name: _encoded(value) for name, value in query.items() if value is not None})


def _encoded(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _speaks_tls(exc: ProtocolError) -> bool:
    """Return whether the peer uses TLS: it answers a plain request with an alert record."""
    return any("\x15\x03" in str(inner) or r"\x15\x03" in str(inner) for inner in (exc, *exc.args))


def _may_repeat(exc: HTTPError, repeatable: bool) -> bool:
    if isinstance(exc, NameResolutionError) or (isinstance(exc, ProtocolError) and _speaks_tls(exc)):
        return False
    return isinstance(exc, _UNSENT) or (isinstance(exc, BROKEN) and repeatable)


def address_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def no_host(url: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"There is no host {urlsplit(url).hostname!r}: check the address {address_of(url)}."
    )


def nothing_answers(url: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"Cannot connect to {address_of(url)}: is the service running, and is that its address?"
    )


def late(url: str) -> ConnectionFailed:
    return ConnectionFailed(f"{address_of(url)} did not respond in time.")


def no_tls(url: str, reason: str) -> TLSFailed:
    """Return the error for OpenSSL's ``reason``."""
    address = address_of(url)
    if "CERTIFICATE_VERIFY_FAILED" in reason or "certificate verify failed" in reason:
        why = _WHY_UNTRUSTED.search(reason)
        return TLSFailed(
            f"The certificate of {address} is not trusted{f': {why[1].strip()}' if why else ''}. "
            "Set the variable SSL_CERT_FILE to the file of your certificate authority, and check "
            "the address."
        )
    if any(sign in reason for sign in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST")):
        plain = address.replace("https://", "http://", 1)
        return TLSFailed(f"{address} does not speak HTTPS: use {plain}.")
    return TLSFailed(f"No HTTPS connection to {address}: {reason}.")


def _unreachable(url: str, exc: HTTPError, *, in_doubt: bool) -> ConnectionFailed:
    if isinstance(exc, NameResolutionError):
        return no_host(url)
    if isinstance(exc, _UNSENT):
        return nothing_answers(url)
    if isinstance(exc, SSLError):
        return no_tls(url, str(exc))
    if isinstance(exc, ProtocolError) and url.startswith("http://") and _speaks_tls(exc):
        return TLSFailed(https_expected(url))
    if not isinstance(exc, BROKEN):
        return ConnectionFailed(f"No connection to {address_of(url)}: {exc}.")
    reason = "did not respond in time" if isinstance(exc, ReadTimeoutError) else "broke the connection"
    doubt = " The request may have been processed: check before you repeat it." if in_doubt else ""
    return ConnectionFailed(f"{address_of(url)} {reason}.{doubt}")
