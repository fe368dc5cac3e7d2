"""How many uploads, downloads and event streams a process carries at once.

Each keeps a thread for as long as its client takes. Some threads are kept free of them, so that a
registry with many slow clients still answers everybody else.
"""

import ctypes
from collections.abc import Callable
from threading import BoundedSemaphore

from model_service.errors import ServiceUnavailable

RESERVED_THREADS = 4
_RETRY_AFTER_S = 5

_M_ARENA_MAX = -8  # glibc's mallopt(3)


class TransferSlots:
    def __init__(self, threads: int) -> None:
        self._free = BoundedSemaphore(max(1, threads - RESERVED_THREADS))

    def take(self) -> Callable[[], None]:
        """Take a slot and return what gives it back.

        Raises:
            ServiceUnavailable: all of them are taken.
        """
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                "As many transfers as API_THREADS allows are under way; try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        return self._free.release


class StreamSlots:
    """How many streams a process carries at once: each keeps a thread, and a quarter of them is enough."""

    def __init__(self, threads: int) -> None:
        self._free = BoundedSemaphore(max(1, threads // 4))

    def take(self) -> None:
        """Raises: ServiceUnavailable: all of them are taken."""
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                "As many event streams as API_THREADS allows are open: try again, or read the job instead.",
                retry_after_s=_RETRY_AFTER_S,
            )

    def give_back(self) -> None:
        self._free.release()


def share_freed_memory() -> None:
    """Have the threads share what malloc keeps of a transfer's freed buffers.

    glibc's would keep some for each thread that ever had one. Another libc is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_ARENA_MAX, 2)
