"""Judges by what a revision of a deployment answers whether the one before it has to come back.

One guard watches one revision, from when it is live, in one process: of several, the first that has seen
enough judges. It counts what says something about the model. A request that was the client's fault (4xx) is
left out, since it is answered fast and would hide what is wrong; so is one that this process had no room for
(503), which other deployments may have filled.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Literal

from model_service.latency import LATENCY_BUCKETS, bucket_of, percentile_ms
from model_service.storage.common.db import Document
from model_service.storage.deployments.documents import former

# The window slides in so many steps.
_SLICES = 12
_FIRST_CLIENT_ERROR, _FIRST_ERROR, _NO_ROOM = 400, 500, 503


@dataclass(frozen=True)
class Violation:
    """What is wrong with a member; None: with all that are judged together. ``str`` of it is a sentence."""

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
            else f"answered 95% of {self.requests:,} requests within {self.value:,.1f} ms, later than the "
            f"{self.limit:,.1f} ms"
        )
        return f"{who} {what} that the deployment's rollback allows, within {self.window_s} s."


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
        rollback: Document,
        judged: frozenset[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``rollback`` as in ``routing.rollback``; ``judged``: the members; None: whatever is noted."""
        self._max_error_rate: float | None = rollback["max_error_rate"]
        self._max_p95_ms: float | None = rollback["max_p95_ms"]
        self._min_requests: int = rollback["min_requests"]
        self._window_s: int = rollback["window_s"]
        self._judged = judged
        self._clock = clock
        self._lock = Lock()
        # The newest slice last: when it ends, and what was seen in it by member.
        self._slices: deque[tuple[float, dict[str, _Seen]]] = deque()

    @classmethod
    def of(cls, deployment: Document) -> "Guard | None":
        """Of the present revision of a stored deployment; None where nothing is to be rolled back to."""
        rollback, before = deployment["routing"]["rollback"], former(deployment)
        if rollback is None or before is None:
            return None
        return cls(rollback, newcomers(deployment["routing"], before["routing"]))

    def note(self, member: str, *, status: int, seconds: float) -> None:
        """A request was answered by this member."""
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
        """What is beyond the limits in the window: of a member that was asked ``min_requests`` times, so that
        one that fails is found beside others that do not; else of all together, when they were.
        """
        for member, seen in self._window().items():
            if seen.requests >= self._min_requests and (found := self._judge(member, seen)):
                return found
        return None

    def _window(self) -> dict[str | None, _Seen]:
        """What was seen in the window: by member, and of all of them under None, last."""
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
        """Holding the lock: drop the slices that ended before the window."""
        while self._slices and self._slices[0][0] <= moment - self._window_s:
            self._slices.popleft()

    def _judge(self, member: str | None, seen: _Seen) -> Violation | None:
        rate, p95_ms = seen.errors / seen.requests, percentile_ms(seen.histogram, 0.95)
        if self._max_error_rate is not None and rate > self._max_error_rate:
            return Violation(member, "error_rate", rate, self._max_error_rate, seen.requests, self._window_s)
        if self._max_p95_ms is not None and p95_ms is not None and p95_ms > self._max_p95_ms:
            return Violation(member, "p95_ms", p95_ms, self._max_p95_ms, seen.requests, self._window_s)
        return None


def newcomers(routing: Document, before: Document) -> frozenset[str] | None:
    """The names of members that ``routing`` serves and ``before`` does not; None: all are judged.

    A member that was served before is not what a rollback would take away. All are judged where only weights
    changed, and in an ensemble, which answers as one.
    """
    if routing["mode"] == "ensemble":
        return None
    known = {member["export_job_id"] for member in before["members"]}
    return frozenset(m["name"] for m in routing["members"] if m["export_job_id"] not in known) or None
