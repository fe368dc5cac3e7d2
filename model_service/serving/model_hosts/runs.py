"""The interface between the engine and a model in a host: runs, and their outcomes."""

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
    """The runtime failed on these inputs; the host continues."""


class RunStopped(Exception):
    """The run's deadline passed, and its runtime stopped it; the host continues."""


class RunKilled(Exception):
    """The run ended the host's process, or the process was killed because of the run.

    The text has the reason.
    """


class HostLost(Exception):
    """The host's process ended during this run, which may not be responsible.

    ``suspect``: it is not known which of several runs was responsible.
    """

    def __init__(self, how: str, *, suspect: bool) -> None:
        super().__init__(how)
        self.suspect = suspect


@dataclass(frozen=True)
class Answer:
    """``seconds``: the duration of the run, measured by the host. ``began_ns``: its start since 1970."""

    outputs: Arrays
    seconds: float
    began_ns: int
    host_pid: int


@dataclass(eq=False)
class Run:
    """One call of a model, for one request or a batch of them.

    Args:
        parts: returns the inputs when the run can begin; None: no request waits for it any more.
        timeout_s: the run is stopped this long after it begins.
        exclusive: no other run is in the host at the same time.
        done: called with the outcome on the event loop; with None if no request waited.
    """

    parts: Callable[[], Sequence[Arrays] | None]
    timeout_s: float
    exclusive: bool
    done: Callable[[Answer | Exception | None], None]
    model: int = 0
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    number: int = 0
    host_pid: int = 0
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
    """``number``: the model's number in its host."""

    def __init__(
        self, host: Beginner, number: int, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self._host = host
        self.number = number

    def begin(self, run: Run) -> None:
        """Start a run on the event loop. Never waits, and never raises errors of the model or its host."""
        run.model = self.number
        self._host.begin(run)


def error_of(message: Mapping[str, Any]) -> Exception:
    """Return the exception for an error in a host's answer."""
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
