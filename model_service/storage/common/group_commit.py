"""Group commit: concurrent writes of several threads share one transaction.

A transaction waits for the journal and takes several round trips, whether it stores one document or thirty.
The first thread is the leader and commits its own item at once, alone. Threads that arrive meanwhile wait.
When the leader is done, one of them becomes the leader and commits for all that wait. So no thread waits for
others to arrive, and the cost per item falls with the load. Databases do this with their logs; here it also
saves work in the driver.
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
    """Commits items in groups. Safe to use from any thread.

    Args:
        commit: stores the items, and returns for each the error of that item alone, or None. If it raises,
            the error applies to every item.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Sequence[Exception | None]]) -> None:
        self._commit = commit
        self._lock = threading.Lock()
        self._queue: deque[_Waiting[T]] = deque()
        self._led = False

    def run(self, item: T) -> None:
        """Return when the item is committed. Raises: the error of ``commit`` for this item."""
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
        """Commit the first items of the queue, including this thread's own, and pass on the lead."""
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
