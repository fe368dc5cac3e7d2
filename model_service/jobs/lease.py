"""Renewal of the lease of a claimed job while it runs."""

import threading
from contextvars import copy_context
from types import TracebackType

import structlog

from model_service.storage.common.leased_jobs import J, LeasedJobs

log = structlog.get_logger(__name__)


# A conversion runs on for at most this time after its job was cancelled.
_LOOK_S = 1.0


class Lease:
    """Renews the lease of one job in a background thread during the ``with`` block.

    ``lost`` is set when the job was cancelled or taken over by another worker. An unreachable database does
    not set it: only when it is back is it known whether another worker took the job.
    """

    def __init__(self, jobs: LeasedJobs[J], job_id: str, token: str, lease_s: float) -> None:
        self._jobs = jobs
        self._job_id = job_id
        self._token = token
        self._lease_s = lease_s
        self._stop = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._renew,), name="lease", daemon=True
        )

    def _renew(self) -> None:
        while not self._stop.wait(min(self._lease_s / 4, _LOOK_S)):
            try:
                if not self._jobs.renew(self._job_id, self._token, self._lease_s):
                    self.lost.set()
                    return
            except Exception as exc:  # this thread must survive every error of one attempt
                log.warning("lease.not_renewed", job_id=self._job_id, error=str(exc))

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
