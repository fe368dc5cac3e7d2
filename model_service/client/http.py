"""One request to the service, retried as far as that is safe.

What may be sent again, and why:

- nothing was sent (refused, no route, connect timeout): any method;
- 429 and 503: any method, since the service answers these before it changes anything;
- the connection broke, timed out, or a proxy answered 502: only what gives the same result twice (GET, HEAD,
  PUT, DELETE, and a POST that carries an Idempotency-Key, as whatever creates something does), because the
  first request may have been processed. A DELETE whose answer was lost can therefore end in NotFound.

A request with a ``deadline`` is one that somebody waits for, a prediction: 429 and 503 are repeated only when
the answer says when (Retry-After), as a 503 may also say that the time was not enough.
"""

import json
import random
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
    InvalidHeader,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from model_service.client.errors import (
    ConnectionFailed,
    InvalidArgument,
    ServiceError,
    Unauthorized,
    UnexpectedAnswer,
    from_answer,
)

ATTEMPTS = 5
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_CONNECT_TIMEOUT_S = 10.0
_LEAST_S = 0.001
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
_KEY_HEADERS = ("X-API-Key", "Authorization")
_IDEMPOTENCY_KEY = "Idempotency-Key"
_UNSENT = (NewConnectionError, ConnectTimeoutError)
BROKEN = (ProtocolError, ReadTimeoutError)


class Transport:
    """Thread-safe. ``timeout_s`` bounds each silence of the other side, not the whole transfer."""

    def __init__(self, base_url: str, *, api_key: str | None, timeout_s: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidArgument(f"{base_url!r} is not an address like http://127.0.0.1:8084.")
        if "@" in parts.netloc:
            raise InvalidArgument("The address carries a user or password: give a key as api_key instead.")
        self.base_url = base_url.rstrip("/")
        self.use_key(api_key)
        self.timeout_s = timeout_s
        self._timeout = urllib3.Timeout(connect=min(timeout_s, _CONNECT_TIMEOUT_S), read=timeout_s)
        self._pool = urllib3.PoolManager(maxsize=16, retries=False)

    def close(self) -> None:
        self._pool.clear()

    def use_key(self, key: str | None) -> None:
        """The key or session's token of every request from now on; None: requests go without one."""
        self._key = {"X-API-Key": key} if key else {}

    def create(self, url: str, data: Any, idempotency_key: str | None = None) -> dict[str, Any]:
        """A POST that creates one thing however often it is sent, and so may be: the answer's JSON object.

        ``idempotency_key`` is for a caller who may send the same again later; by default it is a new one.
        """
        headers = {_IDEMPOTENCY_KEY: idempotency_key or secrets.token_hex(16)}
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
        """The answer's JSON object. ``data`` is sent as JSON, ``body`` as it is.

        Raises:
            ClientError: as :meth:`send`; UnexpectedAnswer when the answer is not a JSON object.
        """
        sent = dict(headers or {})
        if data is not None:
            body = json.dumps(data).encode()
            sent["Content-Type"] = "application/json"
        if query:
            url = f"{url}?{_encode(query)}"
        return self.decode(self.send(method, url, headers=sent, body=body))

    def decode(self, response: BaseHTTPResponse) -> dict[str, Any]:
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise UnexpectedAnswer(f"What answers at {self.base_url} is no Model Service: check the address.")
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
        """An answer below 300; with ``stream`` its body is still to be read, and the caller closes it.

        ``timeout_s`` is for an answer that is known to take longer than others; ``deadline``, on the
        monotonic clock, ends all of it, the retries too.

        A ``url`` without a host is the service's own and gets the service key; a full address never does.
        A callable ``body`` is called for each try.

        Raises:
            ConnectionFailed: no whole answer, after the retries.
            ServiceError: an answer of 400 or more, after the retries.
            UnexpectedAnswer: a redirect.
        """
        sent = dict(headers or {})
        if url.startswith("/"):
            url = self.base_url + url
            sent |= self._key
        repeatable = method in _REPEATABLE or _IDEMPOTENCY_KEY in sent
        timeout = self._timeout
        if timeout_s is not None:
            timeout = urllib3.Timeout(connect=_CONNECT_TIMEOUT_S, read=timeout_s)
        attempt = 0
        while True:
            attempt += 1
            failure: ConnectionFailed | ServiceError
            if deadline is not None:
                left_s = max(deadline - time.monotonic(), _LEAST_S)
                timeout = urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, left_s), read=left_s)
            try:
                response = self._pool.request(
                    method,
                    url,
                    headers=sent,
                    body=body() if callable(body) else body,
                    redirect=False,
                    preload_content=not stream,
                    timeout=timeout,
                )
                if response.status < 300:
                    return response
                content = response.data
            except HTTPError as exc:
                failure = _unreachable(url, exc, in_doubt=method not in {"GET", "HEAD"} and deadline is None)
                again = _may_repeat(exc, repeatable)
                pause_s = backoff_s(attempt)
            else:
                failure = _refusal(url, response, content)
                if isinstance(failure, Unauthorized):
                    failure.key_given = not sent.keys().isdisjoint(_KEY_HEADERS)
                asked_s = retry_after_s(response.headers.get("Retry-After"))
                again = response.status in ({429, 502, 503} if repeatable else {429, 503})
                if deadline is not None:
                    again = again and (asked_s is not None or response.status == 502)
                pause_s = asked_s or backoff_s(attempt)
            if not again or attempt == attempts or not is_worth(pause_s, deadline):
                raise failure
            time.sleep(pause_s)


def backoff_s(attempt: int) -> float:
    """Doubles from 0.2 s; up to half of it is left to chance, so that many clients do not return together."""
    return _FIRST_PAUSE_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 - no secret


def is_worth(pause_s: float, deadline: float | None) -> bool:
    """Nobody waits so long that nothing can come of it."""
    return pause_s <= _LONGEST_PAUSE_S and (deadline is None or time.monotonic() + pause_s < deadline)


def retry_after_s(value: str | None) -> float | None:
    """Of the header ``Retry-After``, seconds or a date; None: there is none to be understood."""
    try:
        return None if value is None else urllib3.Retry.parse_retry_after(urllib3.Retry(0), value)
    except InvalidHeader:
        return None


def segment(value: str) -> str:
    """``value`` as one segment of a path: an id can never reach another route.

    Raises:
        InvalidArgument: empty, or a dot segment, which URLs fold away.
    """
    if value in {"", ".", ".."}:
        raise InvalidArgument(f"{value!r} is not an id.")
    return quote(value, safe="")


def _encode(query: Mapping[str, Any]) -> str:
    """Lists become ``a,b``, the form of the service's ``tags``; None is left out."""
    return urlencode({name: _encoded(value) for name, value in query.items() if value is not None})


def _encoded(value: Any) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _may_repeat(exc: HTTPError, repeatable: bool) -> bool:
    if isinstance(exc, NameResolutionError):
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
        f"Nothing answers at {address_of(url)}: is the service running, and is that its address?"
    )


def redirected(url: str, location: str | None) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"{url} redirects to {location or 'another address'}: use that address.")


def _unreachable(url: str, exc: HTTPError, *, in_doubt: bool) -> ConnectionFailed:
    if isinstance(exc, NameResolutionError):
        return no_host(url)
    if isinstance(exc, _UNSENT):
        return nothing_answers(url)
    if not isinstance(exc, BROKEN):
        return ConnectionFailed(f"No connection to {address_of(url)}: {exc}.")
    reason = "gave no answer in time" if isinstance(exc, ReadTimeoutError) else "broke the connection"
    doubt = " The request may have been processed: look before you repeat it." if in_doubt else ""
    return ConnectionFailed(f"{address_of(url)} {reason}.{doubt}")


def _refusal(url: str, response: BaseHTTPResponse, content: bytes) -> ServiceError:
    if response.status < 400:
        raise redirected(url, response.headers.get("Location"))
    return from_answer(response.status, content, response.headers.get("X-Request-ID"))
