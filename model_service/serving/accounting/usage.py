"""Count requests without a database write while they are processed."""

from collections.abc import Callable, Mapping
from datetime import datetime
from threading import Lock
from uuid import uuid4

import structlog

from model_service.latency import LATENCY_BUCKETS, bucket_of
from model_service.storage.common.db import deadline, now
from model_service.storage.deployments.usage import Batch, Counts, UsageCounts, UsageKey

log = structlog.get_logger(__name__)

# The limit of a flush's time: its thread has other work.
_TIMEOUT_S = 2.0
_FIRST_CLIENT_ERROR, _FIRST_ERROR = 400, 500


class Row:
    """The counts of one member and version of a deployment since the last flush. Times are in seconds."""

    __slots__ = (
        *("requests", "client_errors", "errors", "seconds"),
        *("inference_s", "bytes_in", "bytes_out", "histogram"),
    )

    def __init__(self) -> None:
        self.requests = self.client_errors = self.errors = 0
        self.seconds = self.inference_s = 0.0
        self.bytes_in = self.bytes_out = 0
        self.histogram = [0] * LATENCY_BUCKETS

    def counts(self, at: datetime) -> Counts:
        return Counts(
            at,
            self.requests,
            self.client_errors,
            self.errors,
            self.inference_s * 1000,
            self.bytes_in,
            self.bytes_out,
            self.histogram,
        )


# (deployment id, member, model version) → its counts.
Rows = Mapping[tuple[str, str, str], Row]


class Usage:
    """``count`` is called for every request, on the event loop; ``flush`` twice a second, by another thread.

    ``observe`` gets all new counts, whether MongoDB is available or not. Its errors are logged, and
    lose no usage.

    Requests count in the hour of the next flush, even if MongoDB is unavailable then. They are kept until
    MongoDB has them: as one batch that is resent unchanged, and the later counts.
    """

    def __init__(self, observe: Callable[[Rows], None] = lambda rows: None) -> None:
        self._lock = Lock()
        self._observe = observe
        self._observe_fails = False
        self._rows: dict[tuple[str, str, str], Row] = {}
        # Used by the flushing thread only.
        self._process = uuid4().hex
        self._number = 0
        self._sending: dict[UsageKey, Counts] = {}
        self._waiting: dict[UsageKey, Counts] = {}

    def count(
        self,
        deployment_id: str,
        member: str,
        model_version: str,
        *,
        status: int,
        seconds: float,
        inference_seconds: float,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """Count a request that was answered.

        Args:
            seconds: from the request to the response; the percentiles are computed from these.
            inference_seconds: in the model.
        """
        key = (deployment_id, member, model_version)
        with self._lock:  # 50 ns; without it, counts could be lost during the swap in flush
            row = self._rows.get(key)
            if row is None:
                row = self._rows[key] = Row()
            row.requests += 1
            if status >= _FIRST_ERROR:
                row.errors += 1
            elif status >= _FIRST_CLIENT_ERROR:
                row.client_errors += 1
            row.seconds += seconds
            row.inference_s += inference_seconds
            row.bytes_in += bytes_in
            row.bytes_out += bytes_out
            row.histogram[bucket_of(seconds * 1000)] += 1

    def flush(self, counts: UsageCounts) -> None:
        """Write the counts; one thread at a time.

        Raises: one of DATABASE_ERRORS; everything is kept, and counted once when it is sent again.
        """
        self.collect()
        with deadline(_TIMEOUT_S):
            while self._sending or self._waiting:
                if not self._sending:
                    self._sending, self._waiting = self._waiting, {}
                    self._number += 1
                counts.add(self._sending, Batch(self._process, self._number))
                self._sending = {}

    def collect(self) -> None:
        """Keep the counts since the last call for the next flush, and pass them to ``observe``.

        One thread at a time.
        """
        with self._lock:
            rows, self._rows = self._rows, {}
        at = now()
        hour = at.replace(minute=0, second=0, microsecond=0)
        for key, row in rows.items():
            waiting = self._waiting.get(UsageKey(hour, *key))
            if waiting is None:
                self._waiting[UsageKey(hour, *key)] = row.counts(at)
            else:
                waiting.add(row.counts(at))
        try:
            self._observe(rows)
        except Exception:
            if not self._observe_fails:  # it is called twice a second
                log.exception("serving.usage_not_observed")
            self._observe_fails = True
        else:
            self._observe_fails = False
