"""One model host through its restarts: the packages it holds, and the runs in it.

A thread of its own starts the process, has it load every package again, and waits for its end. Runs come from
an event loop, which sends them and reads their answers without another thread. While there is no process,
runs wait. At the end of a process each run in it is told whether it was at fault (``RunKilled``) or lost
its host (``HostLost``).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from exporters.base import TensorSpec
from exporters.errors import LimitExceeded
from model_service.serving.model_hosts import channel
from model_service.serving.model_hosts.connection import Connection
from model_service.serving.model_hosts.host_process import HostProcess, Limits
from model_service.serving.model_hosts.memory import BadDescription, total_bytes
from model_service.serving.model_hosts.runs import Answer, HostedModel, HostLost, Run, RunKilled, error_of
from model_service.serving.warm_up import Cost, LoadFailed, WarmedUp

log = structlog.get_logger(__name__)

# What is asked to stop has so long until its process is killed.
STOP_S = 0.5
_LOAD_S = 600.0
_LOAD_ATTEMPTS = 2
_LONGEST_PAUSE_S = 10.0
# To copy more than that takes longer than a thread's turn.
_LARGE_BYTES = 1 << 20
_BY_OTHERS = "SIGKILL"  # by the kernel, for lack of memory, or by an administrator: a run is tried once more
_DEADLINE = "it ran past the deployment's timeout_ms"


@dataclass
class _Package:
    folder: Path
    message: dict[str, Any]
    crashes: int = 0


class ModelHost:
    """``name``: of its trust group. ``folder``: where it may read; its packages are linked there."""

    def __init__(self, name: str, program: Sequence[str], folder: Path, limits: Limits, *, gpu: bool) -> None:
        self.name = name
        self._program = program
        self.confined: dict[str, str] = {}
        self.restarts = -1
        self._folder = folder
        self._limits = limits
        self._gpu = gpu
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ready = threading.Condition(self._lock)
        self._packages: dict[int, _Package] = {}
        self._process: HostProcess | None = None
        self._starting: HostProcess | None = None
        self._closed = False
        # The event loop's alone; the host's thread copies what is in them.
        self._loops: set[asyncio.AbstractEventLoop] = set()
        self._waiting: deque[Run] = deque()
        self._running: set[Run] = set()
        folder.mkdir(parents=True)
        self._thread = threading.Thread(target=self._live, name=f"model-host-{name}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.popen.pid if process is not None else None

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
            processes = self._process, self._starting
            self._ready.notify_all()
        for process in filter(None, processes):
            process.kill()
        self._thread.join()
        shutil.rmtree(self._folder, ignore_errors=True)

    # Packages: by the loader's thread.

    def load(self, folder: Path, *, threads: int, lanes: int, gpu: bool) -> WarmedUp:
        """Have the host load a package beside the others, and prove it.

        Raises:
            LoadFailed: proven of the package; it ended the host's process too often, or loads for too long.
            LimitExceeded, OSError: this machine's own trouble.
        """
        with self._lock:
            number = next(self._numbers)
        linked = self._folder / str(number)
        _link(folder, linked)
        message = {"do": "load", "model": number, "folder": str(linked), "threads": threads}
        package = _Package(linked, message | {"lanes": lanes, "gpu": gpu})
        try:
            while True:
                process = self._awaited()
                answer = self._loaded(process, package)
                if answer is not None:
                    with self._lock:
                        if self._process is process:
                            self._packages[number] = package
                            break
            return self._warmed_up(number, answer)
        except BaseException:
            self.forget(number)
            shutil.rmtree(linked, ignore_errors=True)
            raise

    def forget(self, number: int) -> None:
        """No run of this model comes any more."""
        with self._lock:
            package = self._packages.pop(number, None)
            process = self._process
        if process is not None:
            with contextlib.suppress(channel.Closed):
                process.tell({"do": "forget", "model": number})
        if package is not None:
            shutil.rmtree(package.folder, ignore_errors=True)

    def _awaited(self) -> HostProcess:
        with self._ready:
            self._ready.wait_for(lambda: self._process is not None or self._closed, _LOAD_S)
            if self._process is None:
                raise OSError("The model host does not start; the server's log says why.")
            return self._process

    def _loaded(self, process: HostProcess, package: _Package) -> dict[str, Any] | None:
        """The host's answer; None: its process ended meanwhile, and it is to be tried again.

        Raises as ``load``.
        """
        process.loading += 1
        connection = None
        try:
            connection = process.connect()
            answer = connection.ask(package.message, _LOAD_S)
        except TimeoutError:
            process.kill(runs_are_innocent=True)
            raise LoadFailed(f"It did not load within {_LOAD_S:g} s.") from None
        except channel.Closed:
            if process.culprit is None and not self._closed:
                package.crashes += 1
            if package.crashes >= _LOAD_ATTEMPTS:
                raise LoadFailed(
                    "It ended the process that loaded it, twice: it is not tried again."
                ) from None
            process.kill()
            process.popen.wait()
            with self._ready:
                self._ready.wait_for(lambda: self._process is not process or self._closed, _LOAD_S)
            return None
        finally:
            process.loading -= 1
            if connection is not None:
                connection.close()
        if "error" in answer:
            raise error_of(answer)
        return answer

    def _warmed_up(self, number: int, answer: dict[str, Any]) -> WarmedUp:
        try:
            inputs, outputs = (
                [_specification(each) for each in answer[name]] for name in ("inputs", "outputs")
            )
            cost = Cost(float(answer["seconds"]), int(answer["elements"]))
            most = answer["most_rows"]
            most_rows = None if most is None else max(1, int(most))
        except (KeyError, TypeError, ValueError):
            raise LoadFailed("Its process answered something else than a model.") from None
        model = HostedModel(self, number, inputs, outputs)
        return WarmedUp(model, cost, answer["mixes_rows"] is not False, most_rows)

    # The process: by the host's thread.

    def _live(self) -> None:
        failures = 0
        while not self._closed:
            process = self._started()
            if process is None:
                failures += 1
                with self._ready:
                    pause_s = min(0.1 * 2**failures, _LONGEST_PAUSE_S)
                    self._ready.wait_for(lambda: self._closed, pause_s)
                continue
            failures = 0
            with self._ready:
                self._process = process
                self.restarts += 1
                self._ready.notify_all()
                if self._closed:
                    process.kill()
            self._wake(self._dispatch)
            how = process.wait()
            with self._lock:
                self._process = None
            self._tell_of_end(process, how)

    def _started(self) -> HostProcess | None:
        """A process with all packages loaded; None: it did not come so far."""
        process = None
        try:
            process = HostProcess(self._program, self._folder, self._limits, gpu=self._gpu)
            with self._lock:
                self._starting = process
                if self._closed:
                    process.kill()
            self.confined = dict(process.confined())
            for package in self._in_order():
                self._load_again(process, package)
            log.info("model_host.ready", group=self.name, pid=process.popen.pid, confined=self.confined)
            return process
        except (OSError, TimeoutError, channel.Closed) as exc:
            words = ""
            if process is not None:
                process.kill()
                process.wait()
                words = process.close()
            log.warning("model_host.not_started", group=self.name, error=str(exc), last_words=words)
            return None

    def _in_order(self) -> list[_Package]:
        """What failed while it was loaded comes last, and not for a third time."""
        with self._lock:
            packages = sorted(self._packages.values(), key=lambda package: package.crashes)
        return [package for package in packages if package.crashes < _LOAD_ATTEMPTS]

    def _load_again(self, process: HostProcess, package: _Package) -> None:
        connection = process.connect()
        try:
            answer = connection.ask(package.message, _LOAD_S)
        except (TimeoutError, channel.Closed):
            package.crashes += 1
            raise
        finally:
            connection.close()
        if "error" in answer:  # it was loaded here before
            package.crashes += 1
            raise OSError(str(answer.get("message"))[:300])
        package.crashes = 0

    def _tell_of_end(self, process: HostProcess, how: str) -> None:
        """Each run that was in the process learns what became of it."""
        words = process.close()
        if self._closed:
            return
        running = [run for run in list(self._running) if run.connection is not None]
        begun = [run for run in running if run.connection is not None and run.connection.memory.began_ns]
        culprit = process.culprit
        log.warning(
            "model_host.ended",
            group=self.name,
            how=how,
            runs=len(running),
            killed=culprit is not None,
            last_words=words,
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

    def _wake(self, work: Any) -> None:
        for loop in list(self._loops):
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(work)

    # Runs: on the event loop.

    def begin(self, run: Run) -> None:
        """As ``runs.HostedModel.begin``."""
        self._loops.add(run.loop)
        self._waiting.append(run)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting:
            process, run = self._process, self._waiting[0]
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
        except channel.Closed:  # it has just ended: the next one takes the run
            self._waiting.appendleft(run)
            process.kill()
            self._process = None
            return
        except OSError as exc:  # no more descriptors
            run.finish(exc)
            return
        connection.run, run.connection = run, connection
        run.number, run.sent = next(self._numbers), time.monotonic()
        self._running.add(run)
        if self._process is not process:  # it has ended: its runs may have been told already
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
            return  # its end is noticed by the host's thread

    def _sent(self, run: Run, copied: asyncio.Future[None]) -> None:
        exc = copied.exception()
        if exc is not None and not isinstance(exc, channel.Closed | OSError):
            self._refused(run, exc)

    def _refused(self, run: Run, exc: BaseException) -> None:
        """Nothing was sent."""
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
        if run is None:  # it answers what nobody asked
            process.kill(runs_are_innocent=True)
            return
        if "error" in message:
            self._finish(run, error_of(message), process)
        elif _described_bytes(message) > _LARGE_BYTES:
            taken = run.loop.run_in_executor(None, _taken, connection, message)
            taken.add_done_callback(lambda future: self._conclude(process, run, future))
        else:
            try:
                answer = _taken(connection, message)
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
        log.warning("model_host.wrong_answer", group=self.name, error=str(exc))
        process.kill(run)

    def _finish(self, run: Run, outcome: Answer | Exception, process: HostProcess | None = None) -> None:
        connection, run.connection = run.connection, None
        if run not in self._running:
            return
        self._running.discard(run)
        if connection is not None:
            connection.run = None
            if process is not None and process is self._process:
                process.give_back(connection)
            else:
                connection.close()
        run.finish(outcome)
        self._dispatch()

    def _ended(self, run: Run, outcome: Exception) -> None:
        self._finish(run, outcome)

    def _overdue(self, process: HostProcess, run: Run) -> None:
        """The run's time is over, if it began when it was sent; it may have waited for another one's end."""
        connection = run.connection
        if connection is None:
            return
        now = time.monotonic()
        began = connection.memory.began_ns / 1e9
        started = now if began <= 0 else min(max(began, run.sent), now)
        due = min(started, run.sent + run.timeout_s) + run.timeout_s  # whatever the host says
        if due > now + 1e-3:
            run.timer = run.loop.call_later(due - now, self._overdue, process, run)
            return
        with contextlib.suppress(channel.Closed):
            process.tell({"do": "stop", "id": connection.number, "run": run.number})
        run.timer = run.loop.call_later(STOP_S, process.kill, run)


def _taken(connection: Connection, message: dict[str, Any]) -> Answer:
    """Raises: BadDescription."""
    seconds = message.get("seconds")
    if not isinstance(seconds, float) or not math.isfinite(seconds) or seconds < 0:
        raise BadDescription("no duration")
    return Answer(connection.memory.take(message.get("arrays"), copy=True), seconds)


def _described_bytes(message: dict[str, Any]) -> int:
    """What the outputs say of their size: checked later."""
    arrays = message.get("arrays")
    if not isinstance(arrays, list):
        return 0
    return sum(
        each[4] for each in arrays if isinstance(each, list) and len(each) == 5 and each[4].__class__ is int
    )


def _specification(document: Any) -> TensorSpec:
    """Raises: KeyError, TypeError, ValueError: it is none."""
    spec = TensorSpec.from_json(document)
    shape_fits = all(size.__class__ in (int, str) for size in spec.shape)
    if not isinstance(spec.name, str) or not isinstance(spec.dtype, str) or not shape_fits:
        raise ValueError("no specification of a tensor")
    return spec


def _link(source: Path, target: Path) -> None:
    """The package under another name: the host's own folder is all that it may read."""
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except (OSError, shutil.Error):  # another file system, or one without links
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
