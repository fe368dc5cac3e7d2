"""The guard: a small process that starts the processes of a run and ends all of them when its launcher ends.

It is a subreaper (PR_SET_CHILD_SUBREAPER): Linux makes every orphan among its descendants its child, so no
process can leave its tree, whatever its environment, its session or its parent. It sends signals by pidfd,
because a process id may have been reused by another process. Its own children also get a parent-death signal,
in case the guard itself is killed.

``embedded/family.py`` runs it as a program. It talks to the launcher over a socket, with one JSON object a
line:

    launcher → guard   {"spawn": [argument, …], "env": {…}} and the descriptor of the process' output
                       {"end": [pid, …], "grace_s": seconds}
    guard → launcher   {"spawned": pid} or {"refused": errno}
                       {"exited": pid, "code": exit code}    sent when all its descendants have ended too

When the socket closes, the guard ends all its descendants, removes the run's files, and exits. Until then, it
and its children hold the data folder's lock.
"""

import argparse
import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from model_service.signals import die_with_parent, waking

_PR_SET_CHILD_SUBREAPER = 36
_TICK_S = 0.05
_KILL_S = 3.0  # maximum time of SIGKILL; only a process stuck in the kernel needs longer
_READ_BYTES = 65_536


class Guard:
    """Single-threaded: ``waking`` makes the selector return when a child dies."""

    def __init__(self, control: socket.socket, *, lock: int, grace_s: float) -> None:
        self._control = control
        self._lock = lock
        self._grace_s = grace_s
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, subprocess.Popen[bytes]] = {}  # started here and running
        self._deadlines: dict[int, float] = {}  # of processes that are being ended: the time of SIGKILL
        self._codes: dict[int, int] = {}  # exit codes of dead processes with running descendants
        self._terminated: set[psutil.Process] = set()
        self._partial = b""
        self._descriptors: list[int] = []
        self._closing: float | None = None  # set when the launcher is gone: the time of SIGKILL for all

    def run(self) -> None:
        """Wait until the launcher has ended, end its remaining descendants, then return."""
        self._selector.register(self._control, selectors.EVENT_READ, self._control)
        with self._selector, waking(self._selector, [], lambda: None):
            while self._closing is None or self._is_ending():
                self._turn()

    def _is_ending(self) -> bool:
        assert self._closing is not None
        return bool(_descendants()) and time.monotonic() < self._closing + _KILL_S

    def _turn(self) -> None:
        busy = bool(self._deadlines) or self._closing is not None
        for key, _ in self._selector.select(_TICK_S if busy else None):
            if key.data is self._control:
                self._receive()
            else:
                key.data.recv(4096)
        self._reap()
        if self._closing is not None:
            self._end(_descendants(), self._closing)
        elif self._deadlines:
            self._end_families()

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, _READ_BYTES, 1)
        except OSError:
            data, descriptors = b"", []
        self._descriptors += descriptors
        if not data:
            self._selector.unregister(self._control)
            self._closing = time.monotonic() + self._grace_s
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "spawn" in message:
                self._spawn(message["spawn"], message["env"], self._descriptors.pop())
            else:
                deadline = time.monotonic() + message["grace_s"]
                self._deadlines |= {pid: deadline for pid in message["end"] if pid in self._children}

    def _spawn(self, argv: list[str], env: dict[str, str], output: int) -> None:
        """Start a process in its own session, so that the terminal's Ctrl-C does not reach it."""
        try:
            child = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[self._lock],
                start_new_session=True,
                preexec_fn=die_with_parent,  # safe, since the guard has one thread
            )
        except OSError as exc:
            self._tell({"refused": exc.errno})
        else:
            self._children[child.pid] = child
            self._tell({"spawned": child.pid})
        finally:
            os.close(output)

    def _reap(self) -> None:
        """Reap dead children, including adopted ones. After an unexpected exit, descendants are killed."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                child = self._children.pop(pid, None)
                if child is not None:
                    self._codes[pid] = child.returncode = os.waitstatus_to_exitcode(status)
                    self._deadlines.setdefault(pid, time.monotonic())

    def _end_families(self) -> None:
        owners = self._owners()
        for pid, deadline in list(self._deadlines.items()):
            owned = [process for process, owner in owners if owner == pid]
            if pid in self._codes:
                owned += [process for process, owner in owners if owner is None]
            self._end(owned, deadline)
            if pid in self._codes and (not owned or time.monotonic() > deadline + _KILL_S):
                del self._deadlines[pid]
                if not self._deadlines:
                    self._terminated.clear()
                self._tell({"exited": pid, "code": self._codes.pop(pid)})

    def _owners(self) -> list[tuple[psutil.Process, int | None]]:
        """Return each descendant with the process that it belongs to.

        That is the child of the guard that it descends from; for an orphan, the leader of its session. It is
        None for an orphan in its own session, which is ended with the next process that dies, most likely its
        former parent.
        """
        parents = {process: _parent(process) for process in _descendants()}
        by_pid = {process.pid: process for process in parents}
        owners = []
        for process in parents:
            top = process
            while (parent := by_pid.get(parents[top])) is not None:
                top = parent
            owner = top.pid if top.pid in self._children else _session(top)
            known = owner in self._children or owner in self._codes
            owners.append((process, owner if known else None))
        return owners

    def _end(self, processes: list[psutil.Process], deadline: float) -> None:
        """Run one round: SIGTERM for the topmost processes, or SIGKILL for all after ``deadline``.

        SIGTERM goes only to the topmost processes, which end their own children in order: a worker whose
        conversion was ended by another process would report the conversion as failed.
        """
        if time.monotonic() >= deadline:
            _send(processes, signal.SIGKILL)
            return
        pids = {process.pid for process in processes}
        topmost = {process for process in processes if _parent(process) not in pids}
        _send(topmost - self._terminated, signal.SIGTERM)
        self._terminated |= topmost

    def _tell(self, message: dict[str, Any]) -> None:
        """Send a message to the launcher. If the launcher is gone, ``_receive`` notices it."""
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps(message).encode() + b"\n")


def _descendants() -> list[psutil.Process]:
    """Return all descendants except zombies, which run nothing and hold nothing."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _parent(process: psutil.Process) -> int:
    try:
        return int(process.ppid())
    except psutil.Error:
        return os.getpid()


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error, OSError):
            if sys.platform != "linux":
                process.send_signal(number)
                continue
            descriptor = os.pidfd_open(process.pid)
            try:
                if process.is_running():  # compares start times: the descriptor is of the same process
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def _ignore_signals() -> None:
    """Ignore the terminal's signals, which are for the launcher. Children would inherit SIG_IGN."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


def main() -> None:
    parser = argparse.ArgumentParser(description="Started by a launcher; see the docstring of this file.")
    parser.add_argument("--control", type=int, required=True, help="descriptor of the launcher's socket")
    parser.add_argument("--lock", type=int, required=True, help="descriptor of the data folder's lock")
    parser.add_argument("--grace-s", type=float, required=True, help="between SIGTERM and SIGKILL at the end")
    parser.add_argument(
        "--remove", action="append", type=Path, default=[], help="a file or folder of the run"
    )
    arguments = parser.parse_args()
    _ignore_signals()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    control = socket.socket(fileno=arguments.control)
    Guard(control, lock=arguments.lock, grace_s=arguments.grace_s).run()
    for path in arguments.remove:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
