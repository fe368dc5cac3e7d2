"""Signals for a process that waits in a selector, and the signal at the end of a parent."""

import contextlib
import ctypes
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends. On Linux; nothing elsewhere."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def waking(
    selector: selectors.BaseSelector, stops: Sequence[int], ask_to_stop: Callable[[], None]
) -> Iterator[None]:
    """``stops`` call ``ask_to_stop``, and they and SIGCHLD end a ``select``, which alone would sleep through
    them: it returns a key whose data is a socket to be read empty. Main thread only."""

    def stop(number: int, frame: FrameType | None) -> None:
        ask_to_stop()

    woken, waker = socket.socketpair()
    with woken, waker:
        woken.setblocking(False)
        waker.setblocking(False)
        former = {number: signal.signal(number, stop) for number in stops}
        former[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda number, frame: None)
        former_fd = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        selector.register(woken, selectors.EVENT_READ, woken)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_fd)
            for number, handler in former.items():
                signal.signal(number, handler)
