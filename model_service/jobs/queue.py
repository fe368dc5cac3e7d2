"""The queue: it carries ids and may lose them. The only module that imports rq.

Redis is a trigger. A job that was never enqueued, or was lost with Redis, is found by the reconciler in
MongoDB and enqueued again; one that is enqueued twice is claimed once.
"""

from collections.abc import Callable
from threading import Event

import rq
import structlog
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rq.serializers import JSONSerializer

from model_service.config import Settings, SettingsError

log = structlog.get_logger(__name__)

NAME = "exports"


class Queue:
    def __init__(self, settings: Settings) -> None:
        if settings.redis_url is None:
            raise SettingsError("REDIS_URL is not set: name a server, or use 'model-service up'")
        self._redis = Redis.from_url(
            settings.redis_url.get_secret_value(),
            socket_connect_timeout=2,
            socket_timeout=None,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=2),
        )

    def enqueue(self, function: Callable[[str], None], *ids: str) -> None:
        """Ask a worker to run ``function(id)`` for each id that does not wait already.

        When Redis is away nothing is raised: the reconciler asks again.
        """
        queue = self._rq()
        try:
            waiting = set(queue.job_ids)
            for wanted in ids:
                if wanted not in waiting:
                    queue.enqueue_call(
                        function, args=(wanted,), job_id=wanted, timeout=-1, result_ttl=0, failure_ttl=0
                    )
        except RedisError as exc:
            log.warning("queue.unreachable", error=str(exc))

    def waiting(self) -> list[str]:
        """The ids that wait, first come first."""
        return list(self._rq().job_ids)

    def _rq(self) -> rq.Queue:
        # JSON, not RQ's pickle: whoever can write to Redis shall not run code in a worker.
        return rq.Queue(NAME, connection=self._redis, serializer=JSONSerializer)

    def ping(self) -> bool:
        try:
            return bool(self._redis.ping())
        except RedisError:
            return False

    def work(self, stopping: Event) -> None:
        """Run jobs in this process, one at a time, until SIGTERM or SIGINT, which set ``stopping``."""
        worker = _Worker([self._rq()], connection=self._redis, serializer=JSONSerializer)
        worker.stopping = stopping
        worker.work(logging_level="WARNING")


class _Worker(rq.SimpleWorker):
    """RQ's own, in one process: a conversion has a child of its own and needs no forked work-horse."""

    stopping: Event

    def handle_warm_shutdown_request(self) -> None:
        self.stopping.set()
