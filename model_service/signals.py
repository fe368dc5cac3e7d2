"""Signals for a process that waits in a selector."""

import contextlib
import selectors
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from types import FrameType


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
