"""One supervised process across its restarts: command, log lines, readiness and backoff."""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from model_service import processes
from model_service.embedded.console import human
from model_service.embedded.family import Family, Member

_FIRST_DELAY_S = 0.2
_LONGEST_DELAY_S = 5.0
_STEADY_S = 30.0
_SETTLED_S = 1.0
_PROBE_EVERY_S = 0.1
_LONGEST_LINE_BYTES = 65_536


@dataclass(frozen=True)
class Process:
    """A command to run. ``ready`` is polled in the supervisor's only thread, so it must return within 1 s."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None  # None: ready when it has run for a second
    readable: Callable[[str], str | None] = str  # converts a log line for the console; None drops it


class Child:
    """A process, either running (``member`` is set) or to be started at ``due`` (time.monotonic)."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.member: Member | None = None
        self.output_fd = -1  # while it runs
        self.ready = False
        self.deaths = 0  # since it last ran for _STEADY_S
        self.due = math.inf  # not started yet
        self.tail: deque[str] = deque(maxlen=15)
        self._started = 0.0
        self._partial = b""

    @property
    def name(self) -> str:
        return self.process.name

    def start(self, family: Family) -> None:
        """Start the process. Raises OSError: the file is not executable."""
        self.output_fd, theirs = os.pipe()
        try:
            self.member = family.spawn(self.process.argv, self.process.env, theirs)
        except BaseException:
            os.close(self.output_fd)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(self.output_fd, False)
        self._partial = b""
        self.tail.clear()
        self._started = time.monotonic()
        self.due = self._started

    def probe(self) -> None:
        """Update ``ready`` and the time of the next probe."""
        if self.process.ready is None:
            self.ready = time.monotonic() - self._started >= _SETTLED_S
        else:
            self.ready = self.process.ready()
        self.due = time.monotonic() + _PROBE_EVERY_S

    def bury(self) -> str:
        """Schedule the restart of a dead process. Returns the message for the log."""
        assert self.member is not None
        assert self.member.code is not None
        how = f"ended ({processes.ending(self.member.code)})"
        os.close(self.output_fd)
        self.member = None
        self.ready = False
        if time.monotonic() - self._started >= _STEADY_S:
            self.deaths = 0
        self.deaths += 1
        delay = min(_FIRST_DELAY_S * 2 ** (self.deaths - 1), _LONGEST_DELAY_S)
        self.due = time.monotonic() + delay
        return f"{how}; restarts in {delay:.1f} s"

    def read(self) -> list[str] | None:
        """Return the log lines completed by one read; None at the end of the log.

        Raises:
            BlockingIOError: no data is available now.
        """
        data = os.read(self.output_fd, _LONGEST_LINE_BYTES)
        if not data and not self._partial:
            return None
        *complete, rest = (self._partial + data).split(b"\n")
        if rest and (not data or len(rest) >= _LONGEST_LINE_BYTES):
            complete.append(rest)
            rest = b""
        self._partial = rest
        readable = self.process.readable
        lines = [
            line for raw in complete if (line := readable(raw.decode(errors="replace").rstrip())) is not None
        ]
        self.tail.extend(map(human, lines))
        return lines
