"""A connection to a model host: one run at a time, its tensors in a memory of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.memory import SharedMemory

if TYPE_CHECKING:
    from exporters.base import Arrays
    from model_service.serving.model_hosts.runs import Run

# One whose memory has grown beyond that is not kept for the next run.
_KEPT_BYTES = 64 << 20


class Connection:
    """``number``: its id in the host. ``limit_bytes``: of its memory."""

    def __init__(self, number: int, limit_bytes: int) -> None:
        self.number = number
        self.end, self.theirs = channel.pair()
        self.memory = SharedMemory.create(limit_bytes)
        self.run: Run | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def given(self) -> None:
        """The host has its end now."""
        self.theirs.close()

    def watch(self, loop: asyncio.AbstractEventLoop, answered: Callable[[Connection], None]) -> None:
        """Have ``answered`` called when the host answers or closes its end. On the loop's thread."""
        self.loop = loop
        self.end.setblocking(False)
        loop.add_reader(self.end.fileno(), answered, self)

    def send(self, run: Run, parts: Sequence[Arrays]) -> None:
        """Copy the inputs and have the host run them; by any thread.

        Raises:
            MemoryError: the inputs are larger than the memory may be.
            channel.Closed: the host is gone.
        """
        self.memory.began_ns = 0
        described, end = self.memory.put(parts)
        message = {"do": "run", "model": run.model, "run": run.number, "arrays": described, "end": end}
        channel.send(self.end, message)

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer, waited for: of a connection that no loop watches.

        Raises:
            TimeoutError.
            channel.Closed: the host is gone.
        """
        self.end.settimeout(timeout_s)
        channel.send(self.end, message)
        return channel.receive(self.end)

    @property
    def reusable(self) -> bool:
        return len(self.memory) <= _KEPT_BYTES

    def close(self) -> None:
        """On the thread of the loop that watches it, if one does."""
        if self.loop is not None and self.end.fileno() >= 0:
            self.loop.remove_reader(self.end.fileno())
        self.end.close()
        self.theirs.close()
        self.memory.close()
