"""The converter: a child process for one conversion, ``python -m exporters run -``, started in advance.

The child has nothing worth stealing: an empty environment, its own workspace, limits on memory, file size
and processor time, and, where the platform allows it, no network and no access to other files. It imports the
framework before its request arrives, so that no job waits for that. It ends with this process.
"""

import contextlib
import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import structlog

from model_service import processes
from model_service.config import Settings
from model_service.jobs import untrusted_json
from model_service.jobs.command import EXPORT, Command
from model_service.states import JobErrorCode

log = structlog.get_logger(__name__)

Event = dict[str, Any]
_POLL_S = 0.2
_LOCK = "lock"
_LAST_LINES = 10
_LAST_WORD_S = 5.0
_MAX_EVENT_BYTES = 16 << 20


class ConversionError(Exception):
    """The conversion ended without a result: code and message are stored in the job.

    ``code`` is a ``JobErrorCode``, as far as the child reported one.
    """

    def __init__(self, code: str, message: str, details: Event | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}


class ConverterBroken(Exception):
    """The child ended before it read the model: the service is at fault, not the model."""


class ConverterKilled(ConverterBroken):
    """A signal ended the child, which does not mean that the next child fails."""


class Abandoned(Exception):
    """The job was lost or stopped during its conversion; the child is killed."""


class Child:
    """One converter process and its workspace."""

    def __init__(self, settings: Settings, work: Path, command: Command = EXPORT) -> None:
        self._command = command
        self.workspace = Path(tempfile.mkdtemp(dir=work))
        self._stderr = (self.workspace / "stderr.log").open("w+b")
        numbers = {
            "--memory-bytes": settings.export_memory,
            "--file-bytes": settings.export_disk,
            "--cpu-s": int(settings.export_timeout_s * (os.cpu_count() or 1)),
        }
        sandbox = ["--isolate-network", "--confine", str(self.workspace)]
        flags = [word for flag, value in numbers.items() for word in (flag, str(value))]
        self.process = processes.start(
            [sys.executable, "-I", "-m", "exporters", command.name, "-", *sandbox, *flags],
            self.workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def convert(
        self,
        request: Event,
        *,
        timeout_s: float,
        on_progress: Callable[[Event], None],
        on_step: Callable[[Event], None],
        abandoned: Callable[[], bool],
    ) -> Event:
        """Send the request when the child is ready, process its events, and return the result.

        Raises:
            ConversionError: the child reported a failure, crashed, or exceeded the time limit.
            ConverterBroken: the child ended before it began to read the model.
            ConverterKilled: the same, by a signal.
            Abandoned: ``abandoned()`` returned True.
        """
        self._announce()
        events = self._events(timeout_s, abandoned)
        ready = next(events, {})
        if ready.get("event") != "ready":
            raise self._early_end("did not start")
        log.info("converter.ready", **ready.get("environment", {}))
        self._send(request)
        reads = False
        for event in events:
            match event:
                case {"event": "progress", "percent": float() | int(), "message": str()}:
                    reads = True
                    on_progress(event)
                case {"event": "step"}:
                    on_step(event)
                case {"event": "completed", "result": dict() as result}:
                    return result
                case {"event": "failed", "code": str() as code, "message": str() as message}:
                    raise ConversionError(code, message, event.get("details"))
        if not reads:
            raise self._early_end("ended before it read the model")
        raise self._death()

    def _announce(self) -> None:
        """Write the space before the request: a child that is still warming up stops that."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing "ready" says why
            os.write(self.process.stdin.fileno(), b" ")

    def _send(self, request: Event) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.close()
        except BrokenPipeError:
            raise self._early_end("ended before it read its request") from None

    def _events(self, timeout_s: float, abandoned: Callable[[], bool]) -> Iterator[Event]:
        assert self.process.stdout is not None
        deadline = time.monotonic() + timeout_s
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                if abandoned():
                    raise Abandoned
                if time.monotonic() > deadline:
                    raise ConversionError(JobErrorCode.TIMEOUT, self._command.timed_out(timeout_s))
                if not selector.select(_POLL_S):
                    continue
                read = os.read(self.process.stdout.fileno(), 65536)
                if not read:
                    return
                *lines, pending = (pending + read).split(b"\n")
                if len(pending) > _MAX_EVENT_BYTES:
                    return
                for line in lines:
                    event = _parse(line)
                    if event is None:
                        return
                    yield event

    def _early_end(self, what: str) -> ConverterBroken:
        status = None
        with contextlib.suppress(subprocess.TimeoutExpired):  # still running, its output closed or invalid
            status = self.process.wait(_LAST_WORD_S)
        kind = ConverterKilled if status is not None and status < 0 else ConverterBroken
        return kind(f"the converter {what}: {self._last_words()}")

    def _death(self) -> ConversionError:
        """Kill the child and return why its events ended. The child's own messages are not trusted."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_LAST_WORD_S)
        processes.kill_group(self.process)
        status = self.process.wait()
        if status == -signal.SIGKILL:
            return ConversionError(JobErrorCode.LIMIT_EXCEEDED, self._command.killed())
        how = processes.ending(status)
        log.warning("converter.crashed", how=how, last_words=self._last_words())
        return ConversionError(JobErrorCode.CONVERTER_CRASHED, self._command.crashed(how))

    def _last_words(self) -> str:
        """Return the end of its stderr. It may quote the model's file: for our log, not for a response."""
        self._stderr.seek(0)
        return " | ".join(line.decode(errors="replace").rstrip() for line in deque(self._stderr, _LAST_LINES))

    def close(self) -> None:
        """Kill the remaining processes and remove the workspace."""
        processes.kill_group(self.process)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._stderr):
            if pipe is not None:
                pipe.close()
        shutil.rmtree(self.workspace, ignore_errors=True)


def _parse(line: bytes) -> Event | None:
    try:
        event = untrusted_json.parse(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


class Converter:
    """Provides children, with one started in advance."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        work = settings.home / "work"
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_abandoned(work)
        self._work = Path(tempfile.mkdtemp(prefix="worker-", dir=work))
        self._lock = (self._work / _LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._spare: Child | None = None

    def prewarm(self) -> None:
        if self._settings.export_prewarm and self._spare is None:
            self._spare = Child(self._settings, self._work)

    def start(self, command: Command) -> Child:
        """Start a child for another command than ``EXPORT``; the caller closes it."""
        return Child(self._settings, self._work, command)

    def take(self) -> Child:
        """Return a child for one job; the caller closes it."""
        spare, self._spare = self._spare, None
        if spare is not None:
            if spare.process.poll() is None:
                return spare
            spare.close()
        return Child(self._settings, self._work)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a temporary folder of this worker; the folders of dead workers are removed at start."""
        with tempfile.TemporaryDirectory(dir=self._work, ignore_cleanup_errors=True) as folder:
            yield Path(folder)

    def close(self) -> None:
        if self._spare is not None:
            self._spare.close()
        shutil.rmtree(self._work, ignore_errors=True)
        self._lock.close()


def _remove_abandoned(work: Path) -> None:
    """Remove the folders of dead workers: their locks are free, in whatever container they ran."""
    for folder in work.glob("worker-*"):
        with contextlib.suppress(OSError), (folder / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
