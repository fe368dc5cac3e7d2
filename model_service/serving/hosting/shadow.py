"""Shadow traffic: another export runs a share of the requests; its outputs are compared and counted."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model_service.metrics import SHADOWED
from model_service.serving.hosting.member import Model

if TYPE_CHECKING:
    from exporters.base import Arrays

# More at a time would slow down requests whose clients wait.
_MAX_IN_FLIGHT = 2
_RTOL, _ATOL = 1e-2, 1e-3


class Shadow:
    """A member that gets a copy of a ``share`` (0 to 1) of the requests. For the event loop only."""

    def __init__(self, model: Model, share: float) -> None:
        self.model = model
        self.share = share
        self.counts = {"agreed": 0, "differed": 0, "failed": 0, "skipped": 0}
        # The last counts in the deployment's log, and their time (time.monotonic()).
        self.logged_counts = dict(self.counts)
        self.logged_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    def follow(self, inputs: Arrays, outputs: Arrays) -> None:
        """Run the model on ``inputs`` later, and compare its outputs with those that the caller got."""
        if random.random() >= self.share:  # noqa: S311 - nothing to guess
            return
        if len(self._tasks) >= _MAX_IN_FLIGHT:
            self._count("skipped")
            return
        task = asyncio.ensure_future(self._compare(inputs, outputs))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, inputs: Arrays, outputs: Arrays) -> None:
        try:
            answer = self.model.run_now(inputs) or await self.model.submit(inputs)
            # In a thread: comparing large outputs would delay other responses.
            same = await asyncio.to_thread(_same, outputs, answer.outputs)
        except Exception:
            self._count("failed")
        else:
            self._count("agreed" if same else "differed")

    def _count(self, outcome: str) -> None:
        self.counts[outcome] += 1
        SHADOWED.labels(outcome).inc()


def _same(ones: Arrays, others: Arrays) -> bool:
    return ones.keys() == others.keys() and all(_alike(array, others[name]) for name, array in ones.items())


def _alike(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "fc":
        scale = float(np.abs(one).max(initial=0.0))
        return bool(np.allclose(one, other, rtol=_RTOL, atol=_ATOL * max(scale, 1.0), equal_nan=True))
    return bool(np.array_equal(one, other))
