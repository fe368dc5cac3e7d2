"""Periodic tasks of a worker."""

import threading
from collections.abc import Callable

import structlog

from model_service.storage.common.db import CONNECTION_ERRORS

log = structlog.get_logger(__name__)


class Periodic:
    """Runs a task at once and then every ``interval_s``, in its own thread, until it is stopped.

    If the task fails, the error is logged and the task runs again next time.
    """

    def __init__(self, name: str, interval_s: float, task: Callable[[], object]) -> None:
        self._name = name
        self._interval_s = interval_s
        self._task = task
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Start no new run, and do not wait for a running one, which must be safe to kill at any step."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._task()
            except CONNECTION_ERRORS as exc:
                log.warning("periodic.database_away", task=self._name, error=str(exc))
            except Exception:
                log.exception("periodic.failed", task=self._name)
            self._stop.wait(self._interval_s)
