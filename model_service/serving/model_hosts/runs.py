"""A model in a host, as a lane of the engine sees it: runs go in, outcomes come out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from exporters.errors import LimitExceeded
from exporters.runners import InputError
from model_service.serving.common.warm_up import LoadFailed

if TYPE_CHECKING:
    from exporters.base import Arrays, TensorSpec
    from model_service.serving.model_hosts.connection import Connection


class RunFailed(Exception):
    """The runtime failed on these inputs; the host goes on."""


class RunStopped(Exception):
    """The run's deadline passed, and its runtime ended it; the host goes on."""


class RunKilled(Exception):
    """The host's process ended by this run, or was killed for it. The text says how."""


class HostLost(Exception):
    """The host's process ended while this run was in it. The run may have done nothing wrong.

    ``suspect``: nothing says which of several runs was at fault.
    """

    def __init__(self, how: str, *, suspect: bool) -> None:
        super().__init__(how)
        self.suspect = suspect


@dataclass(frozen=True)
class Answer:
    """``seconds``: of the run, as the host measured them."""

    outputs: Arrays
    seconds: float


@dataclass(eq=False)
class Run:
    """One call of a model, of one request or a batch of them.

    Args:
        parts: the inputs, asked for when the run can begin; None: nobody waits for it any more.
        timeout_s: from when the run begins. Then it is stopped.
        exclusive: no other run is in the host meanwhile.
        done: is told the outcome on the event loop; None where nobody waited.
    """

    parts: Callable[[], Sequence[Arrays] | None]
    timeout_s: float
    exclusive: bool
    done: Callable[[Answer | Exception | None], None]
    model: int = 0
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    number: int = 0
    connection: Connection | None = None
    sent: float = 0.0
    timer: asyncio.TimerHandle | None = None

    def finish(self, outcome: Answer | Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.done(outcome)


class Beginner(Protocol):
    def begin(self, run: Run) -> None: ...


class HostedModel:
    """``number``: of the model in its host."""

    def __init__(
        self, host: Beginner, number: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._host = host
        self.number = number

    def begin(self, run: Run) -> None:
        """On the event loop; never waits, and never raises for what the model or its host does."""
        run.model = self.number
        self._host.begin(run)


def error_of(message: Mapping[str, Any]) -> Exception:
    """The exception that a host's answer stands for."""
    text = str(message.get("message"))
    match message.get("error"):
        case "input":
            return InputError(text)
        case "limit":
            return LimitExceeded(text, limit="memory")
        case "load_failed":
            return LoadFailed(text)
        case "machine":
            return OSError(text)
        case "stopped":
            return RunStopped(text)
    return RunFailed(text)
