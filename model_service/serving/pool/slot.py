"""One slot of the pool, and the successive processes in it."""

import contextlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from model_service import processes
from model_service.serving.pool.scaling import Wish

_LONGEST_DELAY_S = 30.0
_STEADY_S = 3.0
_READ_BYTES = 65_536
_SEND_PATIENCE_S = 1.0


class Slot:
    """Either its process runs (``popen`` is set), or the next one starts at ``due`` (time.monotonic())."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.popen: subprocess.Popen[bytes] | None = None
        self.control: socket.socket | None = None
        self.listener: socket.socket | None = None  # outlives the process
        self.due = 0.0
        self.deaths = 0  # in a row, without a process that lived for _STEADY_S
        self.started = 0.0
        self.died = 0.0
        self.ended = False  # removed from the pool: no process follows
        self.stop_requested_at: float | None = None
        self._reset()

    def _reset(self) -> None:
        self.ready = False
        self.serving = False  # it has received its listener
        self.last_message_at = time.monotonic()
        self.utilization = 0.0
        self.wishes: list[Wish] | None = None  # not received yet
        self._partial = b""

    def start(self, command: Sequence[str]) -> None:
        """Start a process with ``command``, which gets its end of the control socket in ``--control``.

        Raises:
            OSError: no process can be started now.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = ["--index", str(self.index), "--control", str(theirs.fileno())]
            try:
                self.popen = subprocess.Popen([*command, *arguments], pass_fds=[theirs.fileno()])
            except OSError:
                ours.close()
                raise
        ours.settimeout(_SEND_PATIENCE_S)
        self.control = ours
        self._reset()
        self.started = time.monotonic()

    def messages(self) -> list[dict[str, Any]] | None:
        """Return the received messages; None if the process closed its end.

        Call it when data is available.
        """
        assert self.control is not None
        try:
            data = self.control.recv(_READ_BYTES)
        except OSError:
            return None
        if not data:
            return None
        self.last_message_at = time.monotonic()
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Send a message. Errors of a process that is ending are ignored: its end is noticed elsewhere."""
        if self.control is not None:
            with contextlib.suppress(OSError):
                socket.send_fds(self.control, [json.dumps(message).encode() + b"\n"], list(descriptors))

    def signal(self, number: signal.Signals) -> None:
        if self.popen is not None:
            self.popen.send_signal(number)

    def bury(self) -> tuple[str, float]:
        """Clean up after the process's end; return how it ended, and the seconds until the next one.

        A process that worked is replaced immediately; the pause grows with each one that does not last.
        """
        assert self.popen is not None
        assert self.control is not None
        self.control.close()
        self.control = None
        ending = processes.ending(self.popen.returncode)
        self.popen = None
        lasted = self.ready and time.monotonic() - self.started >= _STEADY_S
        self.deaths = 1 if lasted else self.deaths + 1
        pause_s = 0.0 if self.deaths == 1 else min(0.25 * 2 ** (self.deaths - 2), _LONGEST_DELAY_S)
        self._reset()
        self.died = time.monotonic()
        self.due = self.died + pause_s
        return ending, pause_s
