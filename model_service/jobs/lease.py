"""Holding on to a claimed job while it is worked on."""

import threading
from types import TracebackType

import structlog

from model_service.storage.exports.exports import Exports

log = structlog.get_logger(__name__)


# How long a conversion goes on after its job was cancelled, at most.
_LOOK_S = 1.0


class Lease:
    """Renews the lease of one job in the background for as long as the ``with`` block lasts.

    ``lost`` is set once the job is no longer ours: cancelled, or taken over by another worker. A database
    that is away for a while is not a loss: whether somebody took the job is known when it is back.
    """

    def __init__(self, exports: Exports, job_id: str, token: str, lease_s: float) -> None:
        self._exports = exports
        self._job_id = job_id
        self._token = token
        self._lease_s = lease_s
        self._stop = threading.Event()
        self.lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def _renew(self) -> None:
        while not self._stop.wait(min(self._lease_s / 4, _LOOK_S)):
            try:
                if not self._exports.renew(self._job_id, self._token, self._lease_s):
                    self.lost.set()
                    return
            except Exception as exc:  # this thread must outlive whatever one attempt meets
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
