"""The steps of one export, and how long each took."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .base import Progress, StepEnded


class Steps:
    """``seconds``: by step, of all its attempts together. ``ended`` is called at the end of each attempt."""

    def __init__(self, ended: StepEnded) -> None:
        self.seconds: dict[str, float] = {}
        self._ended = ended

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        began_ns, began = time.time_ns(), time.perf_counter()
        failed = True
        try:
            yield
            failed = False
        finally:
            seconds = time.perf_counter() - began
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds
            self._ended(step, began_ns, seconds, failed)


def part(progress: Progress, low: float, high: float) -> Progress:
    """Return a progress whose 0 to 100 percent are ``low`` to ``high`` percent of ``progress``."""

    def report(step: str, percent: float, message: str) -> None:
        progress(step, low + (high - low) * percent / 100, message)

    return report
