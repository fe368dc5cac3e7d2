"""Inputs that ended a model's process, and their callers, for one revision of a deployment."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from exporters.base import Arrays

# A slow machine can cause a missed deadline, so an input is refused for a limited time only.
KEPT_S = 3600.0
_MOST_INPUTS = 1000
# One or two keys alone cannot cause the suspension of a deployment.
SUSPENDING_CALLERS = 3


class Kills:
    """``note`` and ``refused`` are called on the event loop, ``verdict`` by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # The oldest first: the input's digest → (until when, how the process ended), and caller → when.
        self._inputs: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._callers: dict[str, float] = {}

    def note(self, inputs: Arrays, caller: str, how: str) -> None:
        """Record an input that ended a process.

        ``caller``: the id of a key, or empty, for example for a shadow.
        """
        now = self._clock()
        with self._lock:
            self._inputs[_digest(inputs)] = (now + KEPT_S, how)
            if len(self._inputs) > _MOST_INPUTS:
                self._inputs.popitem(last=False)
            if caller:
                self._callers[caller] = now

    def refused(self, inputs: Arrays) -> str | None:
        """Return how this input ended a process before; None if it did not."""
        if not self._inputs:
            return None
        until, how = self._inputs.get(_digest(inputs), (0.0, ""))
        return how if self._clock() < until else None

    def verdict(self) -> str | None:
        """Return why the deployment must be suspended; None if it must not."""
        since = self._clock() - KEPT_S
        with self._lock:
            callers = sum(at > since for at in self._callers.values())
        if callers < SUSPENDING_CALLERS:
            return None
        return (
            f"Suspended: requests of {callers} keys crashed the model's process within an hour. "
            "Activate the deployment to serve it again; if this version of the model is at fault, "
            "deploy another one."
        )


def _digest(inputs: Arrays) -> bytes:
    found = hashlib.sha256()
    for name in sorted(inputs):
        array = inputs[name]
        found.update(f"{name}\0{array.dtype}{array.shape}\0".encode())
        found.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return found.digest()
