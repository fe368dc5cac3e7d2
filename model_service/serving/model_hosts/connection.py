"""A connection to a model host: one run at a time, with a shared memory of its own for tensors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.memory import SharedMemory

if TYPE_CHECKING:
    from exporters.base import Arrays
    from model_service.serving.model_hosts.runs import Run

# A connection whose memory has grown beyond this is not reused for another run.
_KEPT_BYTES = 64 << 20


class Connection:
    """``number``: its id in the host. ``limit_bytes``: the limit of its memory."""

    def __init__(self, number: int, limit_bytes: int) -> None:
        self.number = number
        self.end, self.theirs = channel.pair()
        self.memory = SharedMemory.create(limit_bytes)
        self.run: Run | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def given(self) -> None:
        """Close the host's end here, after the host has received it."""
        self.theirs.close()

    def watch(self, loop: asyncio.AbstractEventLoop, answered: Callable[[Connection], None]) -> None:
        """Call ``answered`` when the host answers or closes its end. Called on the loop's thread."""
        self.loop = loop
        self.end.setblocking(False)
        loop.add_reader(self.end.fileno(), answered, self)

    def send(self, run: Run, parts: Sequence[Arrays]) -> None:
        """Copy the inputs and send the run to the host; called by any thread.

        Raises:
            MemoryError: the inputs are larger than the memory's limit.
            channel.Closed: the host is gone.
        """
        self.memory.began_ns = 0
        described, end = self.memory.put(parts)
        message = {"do": "run", "model": run.model, "run": run.number, "arrays": described, "end": end}
        channel.send(self.end, message)

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for the answer, on a connection that no loop watches.

        Raises:
            TimeoutError: no answer in time.
            channel.Closed: the host is gone.
        """
        self.end.settimeout(timeout_s)
        channel.send(self.end, message)
        return channel.receive(self.end)

    @property
    def reusable(self) -> bool:
        return len(self.memory) <= _KEPT_BYTES

    def close(self) -> None:
        """Close the connection; called on the thread of the loop that watches it, if one does."""
        if self.loop is not None and self.end.fileno() >= 0:
            self.loop.remove_reader(self.end.fileno())
        self.end.close()
        self.theirs.close()
        self.memory.close()
