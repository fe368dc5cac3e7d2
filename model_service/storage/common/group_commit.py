"""Group commit: what several threads want to store at the same moment goes into one transaction.

A transaction costs a wait for the journal and a handful of round trips, whether it stores one document or
thirty. The first thread leads: it commits its own item at once, alone. Threads that come meanwhile wait, and
when the leader is done, one of them leads for all that wait. So no thread waits for company, and the more
there are, the less each costs. Databases have done this with their logs for decades; here it spares the
driver too.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AT_ONCE = 32


class _Waiting(Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item
        self.woken = threading.Event()
        self.leads = False
        self.error: BaseException | None = None


class GroupCommit(Generic[T]):
    """Safe to use from any thread.

    Args:
        commit: stores the items, and says for each of them what was wrong with it alone, or None. What it
            raises is every item's error.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[Exception | None]]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[T]] = deque()
        self._led = False

    def run(self, item: T) -> None:
        """Return when the item is committed. Raises: what ``commit`` gave for it."""
        mine = _Waiting(item)
        with self._lock:
            self._queue.append(mine)
            mine.leads, self._led = not self._led, True
        if not mine.leads:
            mine.woken.wait()
        if mine.leads:
            self._lead()
        if mine.error is not None:
            raise mine.error

    def _lead(self) -> None:
        """Commit for the first in the queue, this thread's own item among them, and hand over."""
        with self._lock:
            group = [self._queue.popleft() for _ in range(min(MOST_AT_ONCE, len(self._queue)))]
        errors: Sequence[BaseException | None]
        try:
            errors = self._commit([waiting.item for waiting in group])
        except BaseException as exc:
            errors = [exc] * len(group)
        with self._lock:
            following = self._queue[0] if self._queue else None
            self._led = following is not None
        if following is not None:
            following.leads = True
            following.woken.set()
        for waiting, error in zip(group, errors, strict=True):
            waiting.error = error
            waiting.woken.set()
