"""Counts wrong credentials by client address, to slow down guessing.

A credential is checked before it is counted: correct ones from the same address are never rejected.
"""

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from model_service.config import Settings
from model_service.errors import RateLimited

# Maximum number of addresses that a process remembers; after that, it forgets the oldest window.
_MOST_ADDRESSES = 10_000


class WrongKeys:
    """The counts of one process. Thread-safe."""

    def __init__(self, limit: str, amount: int, window_s: float, clock: Callable[[], float] = time.monotonic):
        self._limit, self._amount, self._window_s, self._clock = limit, amount, window_s, clock
        self._lock = Lock()
        # Address → end of its window, and count; in the order in which the windows began.
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @classmethod
    def of(cls, settings: Settings) -> "WrongKeys | None":
        """Return the counter; None if RATE_LIMITS is off."""
        if settings.rate_limits == "off":
            return None
        amount, window_s = settings.wrong_key_limit
        return cls(settings.rate_limit_wrong_keys, amount, window_s)

    def note(self, address: str) -> None:
        """Count a wrong credential. Raises: RateLimited: too many came from the address."""
        address = _network(address)
        moment = self._clock()
        with self._lock:
            ends, count = self._counts.get(address, (0.0, 0))
            if moment >= ends:
                self._counts.pop(address, None)
                ends, count = moment + self._window_s, 0
            self._counts[address] = (ends, count + 1)
            if len(self._counts) > _MOST_ADDRESSES:
                self._counts.popitem(last=False)
        if count >= self._amount:
            raise RateLimited(f"{self._limit} of wrong keys", max(1, math.ceil(ends - moment)))

    def __len__(self) -> int:
        return len(self._counts)


def _network(address: str) -> str:
    """Return an IPv4 address, or the /64 of an IPv6 address, which belongs to one client."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    except ValueError:
        return address
