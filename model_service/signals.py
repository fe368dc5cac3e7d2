"""Signals for a process that waits in a selector, and the parent-death signal."""

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
    """Let the kernel kill this process when the thread that started it ends. Linux only; else no effect."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def waking(
    selector: selectors.BaseSelector, stops: Sequence[int], ask_to_stop: Callable[[], None]
) -> Iterator[None]:
    """Call ``ask_to_stop`` on the signals ``stops``, and end ``select`` on these and on SIGCHLD.

    Without this, ``select`` continues after a signal. It returns a key whose data is a socket to read until
    it is empty. Main thread only.
    """

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
