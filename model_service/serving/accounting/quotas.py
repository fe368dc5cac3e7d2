"""The limits of an owner's requests to all deployments: per minute and per month.

``admit`` decides in memory. ``sync``, twice a second on another thread, exchanges the counts of admitted
requests with the other processes: those of the minute through Redis, those of the month through MongoDB,
whose counts are the basis of billing. Between two syncs each process admits up to the remainder that it
knows. A limit is therefore exceeded by at most the requests that each process beyond the first receives in
half a second, and never by more than what was left.

While Redis is unavailable, each process counts the minute alone, on top of the last known counts of the
others. While MongoDB is unavailable, it adds its own requests to the month's last known count; these are
kept, and written once when MongoDB is back. They are lost only if the process is killed in the meantime.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from threading import Lock
from typing import NamedTuple
from uuid import uuid4

import structlog

from model_service.errors import QuotaExceeded, RateLimited
from model_service.storage.access.rate_windows import RateWindows
from model_service.storage.common.db import DATABASE_ERRORS, deadline
from model_service.storage.deployments.usage import Batch, UsageCounts, month_of, next_month
from model_service.tiers import TierLimits

log = structlog.get_logger(__name__)

Headers = tuple[tuple[str, str], ...]
_MINUTE_S = 60
# The limit of MongoDB's time: the synchronizing thread has other work.
_TIMEOUT_S = 2.0


class Limit(NamedTuple):
    """``resets_at``: in seconds since the epoch."""

    allowed: int
    remaining: int
    resets_at: int


class Admission(NamedTuple):
    """The limits after this request; None if there is no limit."""

    rate: Limit | None = None
    month: Limit | None = None

    def headers(self) -> Headers:
        """Return ``X-RateLimit-*`` of the owner's minute and ``X-Quota-*`` of the month."""
        rate = () if self.rate is None else _headers("RateLimit", self.rate)
        return rate if self.month is None else rate + _headers("Quota", self.month)


_UNLIMITED = Admission()


def _headers(name: str, limit: Limit) -> Headers:
    return (
        (f"X-{name}-Limit", str(limit.allowed)),
        (f"X-{name}-Remaining", str(limit.remaining)),
        (f"X-{name}-Reset", str(limit.resets_at)),
    )


class _Window:
    """The requests of one owner in this minute."""

    __slots__ = ("others", "own")

    def __init__(self) -> None:
        self.own = self.others = 0


class _Month:
    """The requests of one owner in this month: MongoDB's count, and those admitted here since."""

    __slots__ = ("fresh", "known", "sent")

    def __init__(self) -> None:
        self.known = self.sent = self.fresh = 0


@dataclass(frozen=True)
class QuotaState:
    """``rates_shared``: whether the processes know each other's requests of this minute.

    ``months_current``: whether the months' counts are at most half a second old.
    """

    rates_shared: bool = False
    months_current: bool = False


class Quotas:
    def __init__(
        self, rates: RateWindows, counts: UsageCounts, clock: Callable[[], float] = time.time
    ) -> None:
        self._rates = rates
        self._counts = counts
        self._clock = clock
        self._lock = Lock()
        self._minute = -1
        self._minute_ends = 0.0
        self._month = datetime.min.replace(tzinfo=UTC)
        self._month_ends = 0
        self._windows: dict[str, _Window] = {}
        self._months: dict[str, _Month] = {}
        # Used by the synchronizing thread only: counts that MongoDB has not acknowledged.
        self._process = uuid4().hex
        self._number = 0
        self._sending: dict[tuple[str, datetime], int] = {}
        self._waiting: dict[tuple[str, datetime], int] = {}
        self._state = QuotaState()

    def admit(self, owner: str, limits: TierLimits) -> Admission:
        """Count a request, or refuse it without counting it. No I/O; takes about a microsecond.

        Raises:
            RateLimited: the owner's deployments received their limit of requests in this minute.
            QuotaExceeded: the same in this month. ``refusal_headers`` returns the response headers for both.
        """
        moment = self._clock()
        with self._lock:
            if moment >= self._minute_ends:
                self._turn(moment)
            month = self._months.get(owner)
            if month is None:
                month = self._months[owner] = _Month()
            of_month, of_minute = limits.requests_per_month, limits.rate_limit_per_minute
            if of_month is None and of_minute is None:
                month.fresh += 1
                return _UNLIMITED
            used = month.known + month.sent + month.fresh
            if of_month is not None and used >= of_month:
                raise self._quota_exceeded(of_month, moment)
            rate = None
            if of_minute is not None:
                window = self._windows.get(owner)
                if window is None:
                    window = self._windows[owner] = _Window()
                left = of_minute - window.own - window.others
                if left <= 0:
                    raise self._rate_limited(of_minute, moment)
                window.own += 1
                rate = Limit(of_minute, left - 1, int(self._minute_ends))
            month.fresh += 1
        quota = None if of_month is None else Limit(of_month, of_month - used - 1, self._month_ends)
        return Admission(rate, quota)

    def _turn(self, moment: float) -> None:
        """Begin the next minute, and perhaps the next month. The caller holds the lock."""
        self._minute = int(moment // _MINUTE_S)
        self._minute_ends = (self._minute + 1) * _MINUTE_S
        self._windows = {}
        if moment >= self._month_ends:
            self._close_month()
            self._months = {}
            at = datetime.fromtimestamp(moment, UTC)
            self._month = month_of(at)
            self._month_ends = int(next_month(at).timestamp())

    def _close_month(self) -> None:
        """Queue the requests admitted since the last sync for writing. The caller holds the lock."""
        for owner, month in self._months.items():
            if month.fresh:
                key = (owner, self._month)
                self._waiting[key] = self._waiting.get(key, 0) + month.fresh
                month.sent += month.fresh
                month.fresh = 0

    def _rate_limited(self, allowed: int, moment: float) -> RateLimited:
        wait_s = max(1, ceil(self._minute_ends - moment))
        return RateLimited(f"{allowed} per minute", wait_s, allowed=allowed, resets_at=int(self._minute_ends))

    def _quota_exceeded(self, allowed: int, moment: float) -> QuotaExceeded:
        wait_s = max(1, ceil(self._month_ends - moment))
        return QuotaExceeded(allowed, wait_s, resets_at=self._month_ends)

    def sync(self, owners: Iterable[str] = ()) -> None:
        """Synchronize with the other processes; one thread at a time. Unavailable databases raise no error.

        Args:
            owners: the owners of the served deployments, whose months are read before their first request.
        """
        self._state = QuotaState(self._sync_rates(), self._sync_months(owners))

    def state(self) -> QuotaState:
        """Return the state of the last sync, for the health of the server."""
        return self._state

    def _sync_rates(self) -> bool:
        with self._lock:
            if self._clock() >= self._minute_ends:
                self._turn(self._clock())
            minute = self._minute
            own = {owner: window.own for owner, window in self._windows.items()}
        others = self._rates.exchange(minute, own)
        if others is None:
            return False
        with self._lock:
            if self._minute == minute:
                for owner, count in others.items():
                    self._windows[owner].others = count
        return True

    def _sync_months(self, owners: Iterable[str]) -> bool:
        try:
            with deadline(_TIMEOUT_S):
                self._write_months()
                self._read_months(owners)
        except DATABASE_ERRORS as exc:
            if self._state.months_current:
                log.warning("quotas.database_away", error=str(exc))
            return False
        return True

    def _write_months(self) -> None:
        with self._lock:
            self._close_month()
        while True:
            with self._lock:
                if not self._sending and self._waiting:
                    self._sending, self._waiting = self._waiting, {}
                    self._number += 1
            if not self._sending:
                return
            self._counts.add_months(self._sending, Batch(self._process, self._number))
            with self._lock:
                for (owner, month), count in self._sending.items():
                    if month == self._month:
                        self._months[owner].sent -= count
                        self._months[owner].known += count
            self._sending = {}

    def _read_months(self, owners: Iterable[str]) -> None:
        with self._lock:
            month = self._month
            wanted = {*owners, *self._months}
        found = self._counts.months(wanted, month) if wanted else {}
        with self._lock:
            if self._month == month:
                for owner in wanted:
                    self._months.setdefault(owner, _Month()).known = found.get(owner, 0)


def refusal_headers(error: RateLimited | QuotaExceeded) -> Headers:
    """Return the limit's headers, like ``Admission.headers``, and ``Retry-After``."""
    wait = ("Retry-After", str(error.retry_after_s))
    if "resets_at" not in error.details:  # the limit of wrong keys
        return (wait,)
    name = "Quota" if isinstance(error, QuotaExceeded) else "RateLimit"
    limit = Limit(error.details["allowed"], 0, error.details["resets_at"])
    return (*_headers(name, limit), wait)
