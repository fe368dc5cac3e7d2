"""The front's handle of one process of a model host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_service import processes
from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.connection import Connection
from model_service.serving.model_hosts.runs import Run

PROGRAM = (sys.executable, "-I", "-m", "model_service.serving.model_hosts.process")
_START_S = 60.0
_LAST_WORDS_BYTES = 2000


@dataclass(frozen=True)
class Limits:
    """The limits of a model host.

    ``memory_bytes``: the memory that it may allocate. ``tensor_bytes``: inputs and outputs of one run.
    """

    memory_bytes: int
    tensor_bytes: int


class HostProcess:
    """A process with an empty environment, a control socket, and a pipe for its last output.

    It is killed when the thread that started it ends.
    """

    def __init__(self, program: Sequence[str], folder: Path, limits: Limits, *, gpu: bool) -> None:
        """Start the process. Raises OSError if that is impossible now."""
        self._limits = limits
        self._control, theirs = channel.pair()
        self._words, words = os.pipe()
        os.set_blocking(words, False)  # it is read only after the end: output that does not fit is dropped
        numbers = {
            "--control": theirs.fileno(),
            "--memory-bytes": limits.memory_bytes,
            "--shared-bytes": limits.tensor_bytes,
        }
        command = [*program, "--folder", str(folder), *(["--gpu"] if gpu else [])]
        command += [word for flag, value in numbers.items() for word in (flag, str(value))]
        try:
            with theirs:
                self.popen = processes.start(
                    command,
                    folder,
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    pass_fds=[theirs.fileno()],
                )
        except OSError:
            self._control.close()
            os.close(self._words)
            raise
        finally:
            os.close(words)
        self._lock = threading.Lock()
        self._connections = 0
        self._idle: dict[asyncio.AbstractEventLoop | None, list[Connection]] = defaultdict(list)
        self.culprit: Run | None = None
        self.runs_are_innocent = False
        self.loading = 0

    def confined(self) -> Mapping[str, str]:
        """Wait until the process has confined itself, and return its report, which precedes any model.

        Raises:
            TimeoutError, channel.Closed: it does not start.
        """
        self._control.settimeout(_START_S)
        found: Mapping[str, str] = channel.receive(self._control)["confined"]
        self._control.setblocking(False)
        return found

    def connection(
        self, loop: asyncio.AbstractEventLoop, answered: Callable[[Connection], None]
    ) -> Connection:
        """Return an idle connection of this loop, or a new one.

        Called on the loop's thread. Raises channel.Closed.
        """
        idle = self._idle[loop]
        if idle:
            return idle.pop()
        connection = self.connect()
        connection.watch(loop, answered)
        return connection

    def connect(self) -> Connection:
        """Open a connection. Raises channel.Closed if the process is gone."""
        with self._lock:
            self._connections += 1
            number = self._connections
        connection = Connection(number, self._limits.tensor_bytes)
        try:
            descriptors = [connection.theirs.fileno(), connection.memory.descriptor]
            self.tell({"do": "connect", "id": number}, descriptors)
        except channel.Closed:
            connection.close()
            raise
        connection.given()
        return connection

    def give_back(self, connection: Connection) -> None:
        """Return a connection after its run was answered."""
        if connection.reusable:
            self._idle[connection.loop].append(connection)
        else:
            connection.close()

    def tell(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Send a control message. Raises channel.Closed if the process is gone, or does not read."""
        with self._lock:
            channel.send(self._control, message, descriptors or [])

    def kill(self, culprit: Run | None = None, *, runs_are_innocent: bool = False) -> None:
        """Kill the process. ``culprit``: the run that is the reason. ``runs_are_innocent``: no run is."""
        self.culprit = self.culprit or culprit
        self.runs_are_innocent = self.runs_are_innocent or runs_are_innocent
        if self.popen.returncode is None:
            processes.kill_group(self.popen)

    def wait(self) -> str:
        """Wait until the process has ended, and return how."""
        return processes.ending(self.popen.wait())

    def close(self) -> str:
        """Close after the end, and return the first of its output. It may quote a model: for the log only."""
        self._control.close()
        for loop, idle in self._idle.items():
            for connection in idle:
                if loop is not None and not loop.is_closed():
                    with contextlib.suppress(RuntimeError):
                        loop.call_soon_threadsafe(connection.close)
        with os.fdopen(self._words, "rb") as words:
            return words.read(_LAST_WORDS_BYTES).decode(errors="replace")
