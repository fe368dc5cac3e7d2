"""The front's handle of one process of a model host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.connection import Connection
from model_service.serving.model_hosts.runs import Run

PROGRAM = (sys.executable, "-I", "-m", "model_service.serving.model_hosts.process")
_START_S = 60.0
_LAST_WORDS_BYTES = 2000


@dataclass(frozen=True)
class Limits:
    """``memory_bytes``: what a host may allocate. ``tensor_bytes``: inputs and outputs of one run."""

    memory_bytes: int
    tensor_bytes: int


class HostProcess:
    """Its environment is empty, its descriptors are its control socket and the pipe of its last words.

    It is killed when the thread that made it ends.
    """

    def __init__(self, program: Sequence[str], folder: Path, limits: Limits, *, gpu: bool) -> None:
        """Raises: OSError: no process can be made now."""
        self._limits = limits
        self._control, theirs = channel.pair()
        self._words, words = os.pipe()
        os.set_blocking(words, False)  # nobody reads until it has ended: what does not fit is dropped
        numbers = {
            "--control": theirs.fileno(),
            "--memory-bytes": limits.memory_bytes,
            "--shared-bytes": limits.tensor_bytes,
        }
        command = [*program, "--folder", str(folder), *(["--gpu"] if gpu else [])]
        command += [word for flag, value in numbers.items() for word in (flag, str(value))]
        try:
            with theirs:
                self.popen = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    cwd=folder,
                    env={"HOME": str(folder), "LANG": "C.UTF-8"},
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
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
        """Wait until it has confined itself. What it says of that is from before it knows any model.

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
        """An idle one of this loop's, or a new one. On the loop's thread. Raises: channel.Closed."""
        idle = self._idle[loop]
        if idle:
            return idle.pop()
        connection = self.connect()
        connection.watch(loop, answered)
        return connection

    def connect(self) -> Connection:
        """Raises: channel.Closed: the process is gone."""
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
        """After its run was answered."""
        if connection.reusable:
            self._idle[connection.loop].append(connection)
        else:
            connection.close()

    def tell(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """Raises: channel.Closed: the process is gone, or does not read."""
        with self._lock:
            channel.send(self._control, message, descriptors or [])

    def kill(self, culprit: Run | None = None, *, runs_are_innocent: bool = False) -> None:
        """``culprit``: the run that it is killed for. ``runs_are_innocent``: it is for none of them."""
        self.culprit = self.culprit or culprit
        self.runs_are_innocent = self.runs_are_innocent or runs_are_innocent
        if self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.kill()

    def wait(self) -> str:
        """Until it has ended; how it did."""
        code = self.popen.wait()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def close(self) -> str:
        """After its end. Returns the first of what it wrote, which may quote a model: for the log alone."""
        self._control.close()
        for loop, idle in self._idle.items():
            for connection in idle:
                if loop is not None and not loop.is_closed():
                    with contextlib.suppress(RuntimeError):
                        loop.call_soon_threadsafe(connection.close)
        with os.fdopen(self._words, "rb") as words:
            return words.read(_LAST_WORDS_BYTES).decode(errors="replace")
