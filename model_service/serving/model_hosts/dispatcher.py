"""The dispatcher of a model host's runs: an event loop sends them and reads their answers, without a thread.

While there is no process, runs wait. When a process ends, a run that caused the end gets ``RunKilled``, and
each other run in it gets ``HostLost``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import time
from collections import deque
from functools import partial
from typing import Any

import structlog

from exporters.errors import LimitExceeded
from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.connection import Connection
from model_service.serving.model_hosts.host_process import HostProcess
from model_service.serving.model_hosts.memory import BadDescription, total_bytes
from model_service.serving.model_hosts.runs import Answer, HostLost, Run, RunKilled, error_of

log = structlog.get_logger(__name__)

# Time between the request to stop a run and the end of its process.
STOP_S = 0.5
# Copying more than this takes longer than switching to a thread.
_LARGE_BYTES = 1 << 20
_BY_OTHERS = "SIGKILL"  # by the kernel, for lack of memory, or by an administrator: a run is retried once
_DEADLINE = "it ran past the deployment's timeout_ms"


class Dispatcher:
    """``name``: of the host's trust group. ``process``: set by the host's thread; None: it is not ready.

    Only the event loop changes the sets of loops and runs; the host's thread copies them.
    """

    def __init__(self, name: str) -> None:
        self.process: HostProcess | None = None
        self._name = name
        self._numbers = itertools.count()
        self._loops: set[asyncio.AbstractEventLoop] = set()
        self._waiting: deque[Run] = deque()
        self._running: set[Run] = set()

    def begin(self, run: Run) -> None:
        """See ``runs.HostedModel.begin``."""
        self._loops.add(run.loop)
        self._waiting.append(run)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting:
            process, run = self.process, self._waiting[0]
            alone = run.exclusive or any(each.exclusive for each in self._running)
            if process is None or (alone and self._running):
                return
            self._waiting.popleft()
            parts = run.parts()
            if parts is None:
                run.finish(None)
            else:
                self._send(process, run, parts)

    def _send(self, process: HostProcess, run: Run, parts: Any) -> None:
        try:
            connection = process.connection(run.loop, partial(self._answered, process))
        except channel.Closed:  # it has just ended: the next process gets the run
            self._waiting.appendleft(run)
            process.kill()
            self.process = None
            return
        except OSError as exc:  # no more file descriptors
            run.finish(exc)
            return
        connection.run, run.connection = run, connection
        run.number, run.sent = next(self._numbers), time.monotonic()
        run.host_pid = process.popen.pid
        self._running.add(run)
        if self.process is not process:  # it has ended: its runs may have their outcomes already
            self._finish(run, HostLost("it ended", suspect=False))
            return
        run.timer = run.loop.call_later(run.timeout_s, self._overdue, process, run)
        if total_bytes(parts) > _LARGE_BYTES:
            copied = run.loop.run_in_executor(None, connection.send, run, parts)
            copied.add_done_callback(partial(self._sent, run))
            return
        try:
            connection.send(run, parts)
        except (MemoryError, TypeError) as exc:
            self._refused(run, exc)
        except (channel.Closed, OSError):
            return  # the host's thread handles its end

    def _sent(self, run: Run, copied: asyncio.Future[None]) -> None:
        exc = copied.exception()
        if exc is not None and not isinstance(exc, channel.Closed | OSError):
            self._refused(run, exc)

    def _refused(self, run: Run, exc: BaseException) -> None:
        """Fail a run of which nothing was sent."""
        self._finish(run, LimitExceeded(str(exc), limit="memory"))

    def _answered(self, process: HostProcess, connection: Connection) -> None:
        run = connection.run
        try:
            message = channel.receive(connection.end)
        except BlockingIOError:
            return
        except channel.Closed:
            connection.close()
            process.kill()  # if it has not ended by itself
            return
        if run is None:  # an answer without a run
            process.kill(runs_are_innocent=True)
            return
        if "error" in message:
            self._finish(run, error_of(message), process)
        elif _described_bytes(message) > _LARGE_BYTES:
            taken = run.loop.run_in_executor(None, _taken, run, connection, message)
            taken.add_done_callback(lambda future: self._conclude(process, run, future))
        else:
            try:
                answer = _taken(run, connection, message)
            except BadDescription as exc:
                self._breach(process, run, exc)
            else:
                self._finish(run, answer, process)

    def _conclude(self, process: HostProcess, run: Run, taken: asyncio.Future[Answer]) -> None:
        exc = taken.exception()
        if isinstance(exc, BadDescription):
            self._breach(process, run, exc)
        elif exc is not None:
            self._finish(run, LimitExceeded(str(exc), limit="memory"), process)
        else:
            self._finish(run, taken.result(), process)

    def _breach(self, process: HostProcess, run: Run, exc: BadDescription) -> None:
        log.warning("model_host.wrong_answer", group=self._name, error=str(exc))
        process.kill(run)

    def _finish(self, run: Run, outcome: Answer | Exception, process: HostProcess | None = None) -> None:
        connection, run.connection = run.connection, None
        if run not in self._running:
            return
        self._running.discard(run)
        if connection is not None:
            connection.run = None
            if process is not None and process is self.process:
                process.give_back(connection)
            else:
                connection.close()
        run.finish(outcome)
        self._dispatch()

    def _ended(self, run: Run, outcome: Exception) -> None:
        self._finish(run, outcome)

    def _overdue(self, process: HostProcess, run: Run) -> None:
        """End a run whose time is over.

        The time counts from the run's start in the host, where it may have waited for another run.
        """
        connection = run.connection
        if connection is None:
            return
        now = time.monotonic()
        started = _started(run, connection, now)
        # An upper limit, whatever start the host reports.
        due = min(started, run.sent + run.timeout_s) + run.timeout_s
        if due > now + 1e-3:
            run.timer = run.loop.call_later(due - now, self._overdue, process, run)
            return
        with contextlib.suppress(channel.Closed):
            process.tell({"do": "stop", "id": connection.number, "run": run.number})
        run.timer = run.loop.call_later(STOP_S, process.kill, run)

    def process_ended(self, process: HostProcess, how: str, last_words: str) -> None:
        """Give each run that was in the process its outcome. Called by the host's thread."""
        running = [run for run in list(self._running) if run.connection is not None]
        begun = [run for run in running if run.connection is not None and run.connection.memory.began_ns]
        culprit = process.culprit
        log.warning(
            "model_host.ended",
            group=self._name,
            how=how,
            runs=len(running),
            killed=culprit is not None,
            last_words=last_words,
        )
        for run in running:
            if run is culprit and run in begun:
                outcome: Exception = RunKilled(_DEADLINE)
            elif culprit is not None or process.runs_are_innocent or run not in begun:
                outcome = HostLost(how, suspect=False)
            elif len(begun) == 1 and not process.loading and (how != _BY_OTHERS or run.exclusive):
                outcome = RunKilled(how)
            else:
                outcome = HostLost(how, suspect=True)
            with contextlib.suppress(RuntimeError):  # its loop has ended
                run.loop.call_soon_threadsafe(self._ended, run, outcome)

    def process_ready(self, process: HostProcess) -> None:
        """Send the waiting runs to the process. Called by the host's thread."""
        self.process = process
        for loop in list(self._loops):
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._dispatch)


def _started(run: Run, connection: Connection, now: float) -> float:
    """Return when the run began by the host's report, which is not trusted; all by ``time.monotonic()``."""
    began = connection.memory.began_ns / 1e9
    return now if began <= 0 else min(max(began, run.sent), now)


def _taken(run: Run, connection: Connection, message: dict[str, Any]) -> Answer:
    """Return the answer in a message. Its duration is at most the time since the run was sent.

    Raises BadDescription.
    """
    seconds = message.get("seconds")
    if not isinstance(seconds, float) or not math.isfinite(seconds) or seconds < 0:
        raise BadDescription("no duration")
    outputs = connection.memory.take(message.get("arrays"), copy=True)
    now = time.monotonic()
    seconds = min(seconds, now - run.sent)
    began_ns = time.time_ns() - round((now - _started(run, connection, now)) * 1e9)
    return Answer(outputs, seconds, began_ns, run.host_pid)


def _described_bytes(message: dict[str, Any]) -> int:
    """Return the size of the outputs that the message claims; it is checked later."""
    arrays = message.get("arrays")
    if not isinstance(arrays, list):
        return 0
    return sum(
        each[4] for each in arrays if isinstance(each, list) and len(each) == 5 and each[4].__class__ is int
    )
