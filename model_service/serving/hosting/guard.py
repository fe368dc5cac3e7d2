"""Automatic rollback: decide from the results of a revision whether to return to the previous one.

One guard watches one live revision in one process; the first process with enough requests decides. It counts
results that depend on the model. Errors of the client (4xx) are left out, because they are fast and would
hide problems; so are requests refused for lack of capacity (503), for which other deployments may be
responsible.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from model_service.latency import LATENCY_BUCKETS, bucket_of, percentile_ms
from model_service.storage.deployments.documents import Deployment, RollbackRule, Routing
from model_service.storage.deployments.revisions import former

# The window moves in this number of steps.
_SLICES = 12
_FIRST_CLIENT_ERROR, _FIRST_ERROR, _NO_ROOM = 400, 500, 503


@dataclass(frozen=True)
class Violation:
    """The violation of one member, or, if None, of all watched members together. ``str`` gives a sentence."""

    member: str | None
    measure: Literal["error_rate", "p95_ms"]
    value: float
    limit: float
    requests: int
    window_s: int

    def __str__(self) -> str:
        who = "All members together" if self.member is None else f"Member {self.member!r}"
        what = (
            f"failed {self.value:.1%} of {self.requests:,} requests, more than the {self.limit:.1%}"
            if self.measure == "error_rate"
            else f"answered 95% of {self.requests:,} requests within {self.value:,.1f} ms, more than the "
            f"{self.limit:,.1f} ms"
        )
        return f"{who} {what} allowed by the deployment's rollback rule, within {self.window_s} s."


class _Seen:
    __slots__ = ("errors", "histogram", "requests")

    def __init__(self) -> None:
        self.requests = self.errors = 0
        self.histogram = [0] * LATENCY_BUCKETS

    def add(self, other: "_Seen") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.histogram = [mine + theirs for mine, theirs in zip(self.histogram, other.histogram, strict=True)]


class Guard:
    """``note`` is called on the event loop, ``verdict`` by any thread."""

    def __init__(
        self,
        rollback: RollbackRule,
        judged: frozenset[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rollback`` as in ``routing.rollback``. ``judged``: the watched members; None: all."""
        self._max_error_rate: float | None = rollback["max_error_rate"]
        self._max_p95_ms: float | None = rollback["max_p95_ms"]
        self._min_requests: int = rollback["min_requests"]
        self._window_s: int = rollback["window_s"]
        self._judged = judged
        self._clock = clock
        self._lock = Lock()
        # The newest slice is last: its end, and its results by member.
        self._slices: deque[tuple[float, dict[str, _Seen]]] = deque()

    @classmethod
    def of(cls, deployment: Deployment) -> "Guard | None":
        """Return the guard of a stored deployment's revision; None if there is nothing to roll back to."""
        rollback, before = deployment["routing"]["rollback"], former(deployment, deployment["revisions"])
        if rollback is None or before is None:
            return None
        return cls(rollback, newcomers(deployment["routing"], before["routing"]))

    def note(self, member: str, *, status: int, seconds: float) -> None:
        """Record a request that this member answered."""
        if _FIRST_CLIENT_ERROR <= status < _FIRST_ERROR or status == _NO_ROOM:
            return
        if self._judged is not None and member not in self._judged:
            return
        moment = self._clock()
        with self._lock:
            if not self._slices or moment >= self._slices[-1][0]:
                self._slices.append((moment + self._window_s / _SLICES, {}))
                self._forget(moment)
            members = self._slices[-1][1]
            seen = members.get(member)
            if seen is None:
                seen = members[member] = _Seen()
            seen.requests += 1
            seen.errors += status >= _FIRST_ERROR
            seen.histogram[bucket_of(seconds * 1000)] += 1

    def verdict(self) -> Violation | None:
        """Return a violation of the limits in the window.

        A member with at least ``min_requests`` is checked alone, so that a failing one is found beside
        working ones; then all together, if they have that many.
        """
        for member, seen in self._window().items():
            if seen.requests >= self._min_requests and (found := self._judge(member, seen)):
                return found
        return None

    def _window(self) -> dict[str | None, _Seen]:
        """Return the results in the window by member, and those of all members under None, last."""
        by_member: dict[str | None, _Seen] = {}
        together = _Seen()
        with self._lock:
            self._forget(self._clock())
            for _, members in self._slices:
                for member, seen in members.items():
                    by_member.setdefault(member, _Seen()).add(seen)
                    together.add(seen)
        return by_member if len(by_member) == 1 else {**by_member, None: together}

    def _forget(self, moment: float) -> None:
        """Drop the slices that ended before the window. The caller holds the lock."""
        while self._slices and self._slices[0][0] <= moment - self._window_s:
            self._slices.popleft()

    def _judge(self, member: str | None, seen: _Seen) -> Violation | None:
        rate, p95_ms = seen.errors / seen.requests, percentile_ms(seen.histogram, 0.95)
        if self._max_error_rate is not None and rate > self._max_error_rate:
            return Violation(member, "error_rate", rate, self._max_error_rate, seen.requests, self._window_s)
        if self._max_p95_ms is not None and p95_ms is not None and p95_ms > self._max_p95_ms:
            return Violation(member, "p95_ms", p95_ms, self._max_p95_ms, seen.requests, self._window_s)
        return None


def newcomers(routing: Routing, before: Routing) -> frozenset[str] | None:
    """Return the names of members that ``routing`` serves and ``before`` does not; None: watch all.

    A rollback would not remove a member that was served before. All members are watched if only weights
    changed, and in an ensemble, which produces one result.
    """
    if routing["mode"] == "ensemble":
        return None
    known = {member["export_job_id"] for member in before["members"]}
    return frozenset(m["name"] for m in routing["members"] if m["export_job_id"] not in known) or None
