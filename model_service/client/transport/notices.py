"""Messages while the client waits, from the logger ``model_service.client``.

A pause for a limit, and a pause after two seconds of failures, is a warning, which Python prints to stderr if
logging is not configured. A request without a response for two seconds is logged as information, which the
command line prints too.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger("model_service.client")

PATIENCE_S = 2.0


def log_pause(where: str, reason: str, pause_s: float) -> None:
    """Log that the client pauses before it retries a request."""
    log.warning("waiting: %s: %s Trying again in %.0f s.", where, reason, max(pause_s, 1))


class Watch:
    """Logs requests without a response after 2, 10, 30, 60 … seconds. One thread handles all of them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: dict[object, tuple[float, float, str]] = {}  # started at, next message at, description
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Watch ``what`` while the block runs."""
        if not log.isEnabledFor(logging.INFO):
            yield
            return
        token, now = object(), time.monotonic()
        with self._changed:
            self._open[token] = (now, now + PATIENCE_S, what)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="notices", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del self._open[token]

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                for token, (since, due, what) in self._open.items():
                    if due <= now:
                        log.info("waiting: no response to %s for %.0f s.", what, now - since)
                        self._open[token] = (since, _next(since, now), what)
                dues = [due for _, due, _ in self._open.values()]
                self._changed.wait(max(min(dues) - now, 0.01) if dues else None)


def _next(since: float, now: float) -> float:
    waited_s = now - since
    return since + next((step for step in (10.0, 30.0) if step > waited_s), (waited_s // 30 + 1) * 30)
