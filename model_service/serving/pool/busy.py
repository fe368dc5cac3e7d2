"""Measure the utilisation of a serving process."""

import os
import selectors
import time


class IdleTime(selectors.DefaultSelector):
    """The event loop's selector, which measures how long the loop was idle."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.perf_counter()
        try:
            return super().select(timeout)
        finally:
            self.seconds += time.perf_counter() - began


class Busy:
    """The utilisation of a process: the larger of the shares of models and of its event loop.

    With tiny models, the loop is busy with requests long before the models use all the time.
    """

    def __init__(self, idle: IdleTime) -> None:
        self._idle = idle
        self._at = time.perf_counter()
        self._models_s = 0.0
        self._idle_s = 0.0

    def share(self, models_s: float) -> float:
        """Return the utilisation since the last call, from 0 to 1; called on the event loop's thread.

        Args:
            models_s: the seconds of models from ``Application.load``.
        """
        at = time.perf_counter()
        passed_s = max(at - self._at, 1e-3)
        of_models = (models_s - self._models_s) / passed_s
        of_loop = 1.0 - (self._idle.seconds - self._idle_s) / passed_s
        self._at, self._models_s, self._idle_s = at, models_s, self._idle.seconds
        return round(max(0.0, min(1.0, max(of_models, of_loop))), 3)


def processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
