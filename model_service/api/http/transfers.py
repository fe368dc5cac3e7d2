"""Limits on concurrent uploads, downloads and event streams in a process.

Each one holds a thread for as long as its client takes. Some threads are reserved for other requests, so that
a registry with many slow clients still responds.
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
        """Take a slot and return a function that releases it.

        Raises:
            ServiceUnavailable: all slots are taken.
        """
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                "As many transfers are running as API_THREADS allows; try again.",
                retry_after_s=_RETRY_AFTER_S,
            )
        return self._free.release

    @contextmanager
    def carrying(self, pieces: Iterator[bytes]) -> Iterator[Iterator[bytes]]:
        """Iterate an upload. It takes a slot with its first piece: a client that sends nothing takes none.

        Iterating the pieces raises ServiceUnavailable if all slots are taken.
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
    """Limit on concurrent streams in a process. For each one, there is an extra thread."""

    def __init__(self, threads: int) -> None:
        self._free = BoundedSemaphore(streams(threads))

    def take(self) -> None:
        """Take a slot for a stream. Raises: ServiceUnavailable: all slots are taken."""
        if not self._free.acquire(blocking=False):
            raise ServiceUnavailable(
                "As many event streams are open as API_THREADS allows: try again, or poll the job instead.",
                retry_after_s=_RETRY_AFTER_S,
            )

    def give_back(self) -> None:
        self._free.release()


def streams(threads: int) -> int:
    """Return the number of event streams that are allowed for this number of other requests."""
    return max(1, threads // 4)


def share_freed_memory() -> None:
    """Let all threads share the memory that malloc keeps after a transfer's buffers were freed.

    glibc would keep some memory for each thread that ever had a buffer. Other C libraries are not changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_ARENA_MAX, 2)
