"""How many uploads, downloads and event streams a process carries at once.

Each keeps a thread for as long as its client takes. Some threads are kept free of them, so that a
registry with many slow clients still answers everybody else.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
                "As many transfers are running as API_THREADS allows; try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        return self._free.release

    @contextmanager
    def carrying(self, pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
        """An upload. It takes a slot when its first piece is there: a client that sends nothing takes none.

        Iterating the pieces raises ServiceUnavailable where all slots are taken.
        """
        taken: list[Callable[[], None]] = []

        def carried() -> Iterator[bytes]:
            for piece in pieces:
                if not taken:
                    taken.append(self.take())
                yield piece

        try:
            yield carried()
        finally:
            for give_back in taken:
                give_back()


class StreamSlots:
    """How many streams a process carries at once: each keeps a thread, of which there is one more for it."""

    def __init__(self, threads: int) -> None:
        self._free = BoundedSemaphore(streams(threads))

    def take(self) -> None:
        """Raises: ServiceUnavailable: all of them are taken."""
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                "As many event streams are open as API_THREADS allows: try again, or poll the job instead.",
                retry_after_s=_RETRY_AFTER_S,
            )

    def give_back(self) -> None:
        self._free.release()


def streams(threads: int) -> int:
    """How many event streams there are beside so many other requests."""
    return max(1, threads // 4)


def share_freed_memory() -> None:
    """Have the threads share what malloc keeps of a transfer's freed buffers.

    glibc's would keep some for each thread that ever had one. Another libc is left as it is.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_ARENA_MAX, 2)
