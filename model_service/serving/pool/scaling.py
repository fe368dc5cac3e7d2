"""Decide how many processes the pool should have.

The rule is that of Kubernetes' HorizontalPodAutoscaler: desired = load / target, with windows against
flapping. The pool grows if even the smallest desired number in ``GROW_AFTER_S`` is above the present one, and
shrinks if even the largest desired number in ``SHRINK_AFTER_S`` is below it.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GROW_AFTER_S = 2.0
SHRINK_AFTER_S = 60.0
# A process is removed if the others would stay this far below their target without it.
_SPARE = 0.9
_ROUNDING = 1e-9  # 0.7 / 0.7 is one process, not two


@dataclass(frozen=True)
class Wish:
    """The scaling settings of one deployment.

    Args:
        target_utilization: percent of a process's capacity.
        initial_replicas: processes at the start, before the load is known.
    """

    min_replicas: int
    max_replicas: int
    target_utilization: float
    initial_replicas: int = 0

    def processes(self, load: float) -> int:
        """Return the processes for a load, which is given in fully busy processes."""
        wanted = math.ceil(load * 100 / self.target_utilization - _ROUNDING)
        return max(self.min_replicas, min(wanted, self.max_replicas))


@dataclass(frozen=True)
class _Sample:
    at: float
    wanted: int
    kept: int  # the same, with a reserve


class Scaler:
    """``limit``: the largest size of the pool, regardless of the wishes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._size = 1
        self._since: float | None = None
        self._samples: deque[_Sample] = deque()
        self._known: frozenset[Wish] = frozenset()

    def size(self, now: float, utilizations: Sequence[float], wishes: Iterable[Wish]) -> int:
        """Return the pool's size; called about twice a second.

        Args:
            now: time.monotonic().
            utilizations: of the serving processes, each from 0 to 1.
            wishes: of the active deployments. Every process hosts all of them, so the largest number is used.
        """
        wishes = list(wishes) or [Wish(1, 1, 100)]
        load = sum(utilizations)
        wanted = max(wish.processes(load) for wish in wishes)
        kept = max(wish.processes(load / _SPARE) for wish in wishes)
        if self._since is None:
            self._since = now
        initial = max((wish.initial_replicas for wish in wishes if wish not in self._known), default=0)
        self._known = frozenset(wishes)
        self._size = max(self._size, initial)
        self._samples.append(_Sample(now, wanted, max(kept, initial)))
        while self._samples[0].at < now - SHRINK_AFTER_S:
            self._samples.popleft()
        if now - self._since >= GROW_AFTER_S:
            recent = (sample.wanted for sample in self._samples if sample.at >= now - GROW_AFTER_S)
            self._size = max(self._size, min(recent))
        if now - self._since >= SHRINK_AFTER_S:
            self._size = min(self._size, max(sample.kept for sample in self._samples))
        # The configured limits apply immediately.
        least = max(wish.min_replicas for wish in wishes)
        most = max(wish.max_replicas for wish in wishes)
        self._size = max(1, min(max(self._size, least), most, self._limit))
        return self._size
