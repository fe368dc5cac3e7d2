"""How many uploads and downloads a process carries at once.

Each keeps a thread for as long as its client takes. Some threads are kept free of them, so that a
registry with many slow clients still answers everybody else.
"""

from collections.abc import Callable
from threading import BoundedSemaphore

from model_service.errors import ServiceUnavailable

RESERVED_THREADS = 4
_RETRY_AFTER_S = 5


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
