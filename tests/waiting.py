"""Waiting for conditions, and the processes that the tests look at."""

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from model_service.embedded import family

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T],
    what: str,
    *,
    deadline_s: float = 60,
    ignoring: tuple[type[Exception], ...] = (),
) -> T:
    """The first true value of ``condition``; an exception of ``ignoring`` counts as false."""
    deadline = time.monotonic() + deadline_s
    while True:
        with contextlib.suppress(*ignoring):
            if value := condition():
                return value
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        time.sleep(0.02)


def wait_until_gone(pids: Iterable[int], *, deadline_s: float = 10) -> None:
    wait_for(
        lambda: not [pid for pid in pids if family.is_alive(pid)],
        f"processes {list(pids)} gone",
        deadline_s=deadline_s,
    )
