"""Decide which requests may be retried:

- nothing was sent (refused, no route, connect timeout): any method;
- 429 and 503: any method, since the service returns these before it changes anything. After a 429 the client
  waits as long as Retry-After says, as often as necessary, up to ``longest_wait_s`` in total;
- the connection broke, timed out, or a proxy returned 502: only requests whose repetition has the same result
  (GET, HEAD, PUT, DELETE, and a POST with an Idempotency-Key, which all creating requests have), because the
  first request may have been processed. A DELETE whose response was lost can therefore end in NotFound.

A request with a ``deadline``, such as a prediction, is retried after 429 and 503 only if the response has
Retry-After: a 503 may also mean that the time was not sufficient.
"""

import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import InvalidHeader

from model_service.client.errors import (
    ClientError,
    TLSFailed,
    TooManyRequests,
    Unauthorized,
    UnexpectedAnswer,
    from_answer,
)
from model_service.client.transport.notices import PATIENCE_S, log_pause

ATTEMPTS = 5
IDEMPOTENCY_KEY = "Idempotency-Key"
# The limit of all waits for rate limits in one request.
LONGEST_WAIT_S = 120.0
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 30.0
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
# The responses of nginx, Go's and Apache's servers to a plain request at an HTTPS port.
_NEEDS_HTTPS = re.compile(
    rb"HTTP request (was sent )?to (an? )?(HTTPS|SSL-enabled)|plain HTTP to an SSL-enabled", re.I
)
_KEY_HEADERS = ("X-API-Key", "Authorization")


@dataclass(frozen=True)
class Failure:
    """A failed try. ``again``: a retry is safe. ``retry_after_s``: from the response."""

    error: ClientError
    again: bool
    retry_after_s: float | None = None


class Tries:
    """The tries of one request.

    Args:
        where: the address, for the log messages.
        attempts: the number of failed tries after which the request fails; rate-limited ones with a requested
            wait do not count.
        deadline: on the monotonic clock: no pause exceeds it.
        longest_wait_s: for all waits for rate limits together.
    """

    def __init__(
        self,
        where: str,
        *,
        attempts: int = ATTEMPTS,
        deadline: float | None = None,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self._where, self._attempts, self._deadline = where, attempts, deadline
        self._left_s = longest_wait_s
        self._failed = 0
        self._began = time.monotonic()

    def pause_s(self, failure: Failure) -> float:
        """Return the pause before the next try, and log it. Raises the error if no other try can help."""
        is_limit = isinstance(failure.error, TooManyRequests) and failure.retry_after_s is not None
        self._failed += 0 if is_limit else 1
        pause_s = failure.retry_after_s or backoff_s(self._failed)
        if is_limit:
            self._left_s -= pause_s
        is_in_time = self._deadline is None or time.monotonic() + pause_s < self._deadline
        is_patient = self._left_s >= 0 if is_limit else pause_s <= _LONGEST_PAUSE_S
        if not (failure.again and self._failed < self._attempts and is_in_time and is_patient):
            raise failure.error
        if is_limit or time.monotonic() - self._began >= PATIENCE_S:
            log_pause(self._where, failure.error.message, pause_s)
        return pause_s


def is_repeatable(method: str, sent: Mapping[str, str]) -> bool:
    """Return whether a repetition of the request has the same result."""
    return method in _REPEATABLE or IDEMPOTENCY_KEY in sent


def refused(
    method: str,
    url: str,
    *,
    sent: Mapping[str, str],
    status: int,
    answered: Mapping[str, str],
    content: bytes,
    deadline: float | None,
) -> Failure:
    """Return the failure of a response of 300 or more.

    ``sent`` are the request's headers, ``answered`` the response's.

    Raises:
        UnexpectedAnswer: a redirect.
        TLSFailed: the server accepts HTTPS only.
    """
    if status < 400:
        location = answered.get("Location") or "another address"
        raise UnexpectedAnswer(f"{url} redirects to {location}: use that address.")
    if status == 400 and url.startswith("http://") and _NEEDS_HTTPS.search(content):
        raise TLSFailed(https_expected(url))
    error = from_answer(status, content, answered.get("X-Request-ID"), answered.get("Server"))
    if isinstance(error, Unauthorized):
        error.key_given = not sent.keys().isdisjoint(_KEY_HEADERS)
    retry_after_s = _retry_after_s(answered.get("Retry-After"))
    if status == 502:
        return Failure(error, is_repeatable(method, sent), retry_after_s)
    return Failure(
        error, status in {429, 503} and (deadline is None or retry_after_s is not None), retry_after_s
    )


def https_expected(url: str) -> str:
    parts = urlsplit(url)
    return f"http://{parts.netloc} speaks HTTPS: use https://{parts.netloc}."


def backoff_s(attempt: int) -> float:
    """Return a pause that doubles from 0.2 s; up to half is random, so that clients do not synchronize."""
    return _FIRST_PAUSE_S * 2.0 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311 - no secret


def _retry_after_s(value: str | None) -> float | None:
    """Parse seconds or a date; None if there is no valid value."""
    try:
        return None if value is None else urllib3.Retry.parse_retry_after(urllib3.Retry(0), value)
    except InvalidHeader:
        return None
