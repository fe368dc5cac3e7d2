"""Starts processes in order, shows their logs, restarts dead ones, and stops all in reverse order.

One thread and one selector: every event (a log line, a death, a signal) wakes the same loop, so nothing here
needs a lock. Several processes form a stage; a stage starts when all processes of the previous one are ready.
"""

import contextlib
import math
import selectors
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from model_service.embedded.child import Child, Process
from model_service.embedded.console import Console
from model_service.embedded.errors import Misconfigured, StartFailed
from model_service.embedded.family import Family
from model_service.signals import waking

_WRONG_SETTINGS = 2  # an exit code of our programs, of argparse and of mongod
_TRIES = 5
_START_S = 180.0
# Appears in log lines: the start timeout is extended while data of an earlier version is migrated.
_MIGRATING = "migration.running"
_STAGE_GRACE_S = 3.5  # two stages, each with SIGKILL at its end, stop within 10 s
_IDLE_S = 60.0


class Supervisor:
    """``started`` is called once, when all are ready; ``changed`` (pids by name) then and at each restart."""

    def __init__(
        self,
        stages: Sequence[Sequence[Process]],
        family: Family,
        console: Console,
        *,
        started: Callable[[], None],
        changed: Callable[[Mapping[str, int]], None],
    ) -> None:
        self._stages = [[Child(process) for process in stage] for stage in stages]
        self._children = [child for stage in self._stages for child in stage]
        self._family = family
        self._console = console
        self._on_started = started
        self._on_changed = changed
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._all_ready = False
        self._start_by = math.inf

    def run(self) -> None:
        """Return after SIGINT, SIGTERM or SIGHUP, when every process has ended. Main thread only.

        Raises:
            StartFailed: a process did not become ready; every process has ended.
            Misconfigured: the settings of a process are wrong, found at the start or at a restart.
            GuardLost: the guard was killed, and all processes with it.
        """
        stops = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup must survive the terminal
            stops.append(signal.SIGHUP)
        self._selector.register(self._family, selectors.EVENT_READ, self._family)
        with self._selector, waking(self._selector, stops, self._ask_to_stop):
            try:
                self._start()
                while not self._stopping:
                    self._turn()
            finally:
                for stage in reversed(self._stages):
                    self._stop(stage)

    def _start(self) -> None:
        for stage in self._stages:
            self._start_by = time.monotonic() + _START_S
            for child in stage:
                self._launch(child)
            while not all(child.ready for child in stage):
                self._turn()
                if self._stopping:
                    return
                self._give_up(stage, late=time.monotonic() > self._start_by)
        self._all_ready = True
        self._on_changed(self._pids())
        self._on_started()

    def _give_up(self, stage: Sequence[Child], *, late: bool) -> None:
        for child in self._children:
            if child.deaths >= _TRIES:
                raise StartFailed(_explain(child, f"ended {child.deaths} times during its start"))
        for child in stage:
            if late and not child.ready:
                raise StartFailed(_explain(child, f"was not ready after {_START_S:.0f} s"))

    def _turn(self) -> None:
        """Run one round of the loop: wait for an event, then do what is due."""
        now = time.monotonic()
        pending = [child.due - now for child in self._children if child.member is None or not child.ready]
        self._pump(max(0.0, min([_IDLE_S, *pending])))
        for child in self._children:
            if self._stopping:
                return
            if child.member is not None and child.member.code is not None:
                self._bury(child)
            if child.due > time.monotonic():
                continue
            if child.member is None:
                self._launch(child)
            elif not child.ready:
                child.probe()

    def _pump(self, timeout_s: float) -> None:
        """Wait for log lines, an exit or a signal, at most ``timeout_s``, and show the lines."""
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, Child):
                self._show(key.data)
            elif key.data is self._family:
                self._family.receive()
            else:
                key.data.recv(4096)

    def _show(self, child: Child) -> None:
        lines = child.read()
        if lines is None:
            self._selector.unregister(child.output_fd)
        else:
            self._console.write(child.name, lines)
            if any(_MIGRATING in line for line in lines):
                self._start_by = time.monotonic() + _START_S

    def _launch(self, child: Child) -> None:
        try:
            child.start(self._family)
        except OSError as exc:
            raise StartFailed(f"{child.name} cannot be started: {exc}") from None
        self._selector.register(child.output_fd, selectors.EVENT_READ, child)
        if self._all_ready:
            self._on_changed(self._pids())

    def _bury(self, child: Child) -> None:
        self._close_log(child)
        assert child.member is not None
        if child.member.code == _WRONG_SETTINGS:
            raise Misconfigured(f"{child.name}: {child.tail[-1] if child.tail else 'its settings are wrong'}")
        self._console.write(child.name, [child.bury()])

    def _close_log(self, child: Child) -> None:
        """Show the remaining log lines of a dead process."""
        watched = self._selector.get_map()
        with contextlib.suppress(BlockingIOError):
            while child.output_fd in watched:
                self._show(child)
        if child.output_fd in watched:  # a process that left the session still writes to it
            self._selector.unregister(child.output_fd)

    def _stop(self, stage: Sequence[Child]) -> None:
        running = [child for child in stage if child.member is not None]
        members = [child.member for child in running if child.member is not None]
        self._family.end(members, _STAGE_GRACE_S)
        while any(member.code is None for member in members):
            self._pump(_IDLE_S)
        for child in running:
            self._close_log(child)
            child.bury()

    def _pids(self) -> dict[str, int]:
        return {child.name: child.member.pid for child in self._children if child.member is not None}

    def _ask_to_stop(self) -> None:
        self._stopping = True


def _explain(child: Child, what: str) -> str:
    last_lines = "\n".join(f"  {line}" for line in child.tail) or "  (it logged nothing)"
    return f"{child.name} {what}, so everything was stopped. Its last lines:\n{last_lines}"
