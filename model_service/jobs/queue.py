"""The job queue in Redis. It carries ids and may lose them. Only this module imports rq.

Redis only triggers jobs. The reconciler finds jobs that were never enqueued, or were lost with Redis, in
MongoDB and enqueues them again. A job that is enqueued twice is claimed once.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

import rq
import structlog
from redis.exceptions import RedisError
from rq.exceptions import InvalidJobOperation
from rq.serializers import JSONSerializer

from model_service.config import Settings
from model_service.storage.common.secrets import Secrets
from model_service.storage.common.shared_redis import connect

log = structlog.get_logger(__name__)

EXPORTS, EVALUATIONS, INSPECTIONS, SCANS = "exports", "evaluations", "inspections", "scans"
PACKAGE_BUILDS = "package_builds"
# Priority order: exports and evaluations need inspected datasets; a build takes seconds; no user waits for a
# scan.
_NAMES = (INSPECTIONS, PACKAGE_BUILDS, EXPORTS, EVALUATIONS, SCANS)
# After an inspection or a build an export or evaluation comes first, so it waits for at most one of them per
# worker.
_AFTER_SHORT_JOB = (EXPORTS, EVALUATIONS, PACKAGE_BUILDS, INSPECTIONS, SCANS)
# Timeout of Redis in a request, without a retry.
_TIMEOUT_S = 1.0


class Queue:
    """The queue. Safe to use from any thread; connects on first use."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        """Raises: SettingsError: REDIS_URL is missing or malformed."""
        self._settings, self._secrets = settings, secrets
        self._redis = connect(settings, secrets, _TIMEOUT_S)

    def enqueue(self, name: str, function: Callable[[str], None], job_id: str) -> None:
        """Enqueue ``function(job_id)``. If Redis is unreachable, the reconciler enqueues it later."""
        with self._tolerated():
            _push(self._rq(name), function, job_id)

    def enqueue_missing(self, name: str, function: Callable[[str], None], job_ids: Sequence[str]) -> None:
        """Enqueue those of the jobs that are not in the queue."""
        if not job_ids:
            return
        with self._tolerated():
            queue = self._rq(name)
            waiting = set(queue.job_ids)
            for job_id in job_ids:
                if job_id not in waiting:
                    _push(queue, function, job_id)

    def waiting(self, name: str) -> list[str]:
        """Return the waiting ids, first in first."""
        return list(self._rq(name).job_ids)

    def ping(self) -> bool:
        try:
            return bool(self._redis.ping())
        except RedisError:
            return False

    def work(self, stopping: Event) -> None:
        """Run jobs in this process, one at a time, until SIGTERM or SIGINT, which set ``stopping``."""
        connection = connect(self._settings, self._secrets, None)  # no timeout, since it waits for jobs
        queues = [rq.Queue(name, connection=connection, serializer=JSONSerializer) for name in _NAMES]
        worker = _Worker(queues, connection=connection, serializer=JSONSerializer)
        worker.stopping = stopping
        worker.work(logging_level="WARNING")

    def _rq(self, name: str) -> rq.Queue:
        # JSON instead of RQ's pickle: write access to Redis must not allow running code in a worker.
        return rq.Queue(name, connection=self._redis, serializer=JSONSerializer)

    @contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except RedisError as exc:
            log.warning("queue.unreachable", error=str(exc))


def _push(queue: rq.Queue, function: Callable[[str], None], job_id: str) -> None:
    queue.enqueue_call(function, args=(job_id,), job_id=job_id, timeout=-1, result_ttl=0, failure_ttl=0)


class _Worker(rq.SimpleWorker):
    """RQ's worker in a single process: a conversion has its own child, so no fork per job is needed."""

    stopping: Event
    max_connection_wait_time = 2  # RQ's default sleeps up to a minute after Redis is back

    def reorder_queues(self, reference_queue: rq.Queue) -> None:
        """Set the order for the next job; RQ calls it with the queue of the job that it takes."""
        order = _AFTER_SHORT_JOB if reference_queue.name in (INSPECTIONS, PACKAGE_BUILDS) else _NAMES
        self._ordered_queues = sorted(self.queues, key=lambda queue: order.index(queue.name))

    def handle_job_success(self, *arguments: Any, **named: Any) -> None:
        # An id that was enqueued twice: another worker has removed the job while this one ran it.
        with suppress(InvalidJobOperation):
            super().handle_job_success(*arguments, **named)

    def handle_warm_shutdown_request(self) -> None:
        self.stopping.set()
