"""The processes of one run: whatever carries its mark, and all that descends from it.

Run as a program, this file is the guard: a small process beside a launcher, which ends the run's processes
when the launcher is gone, however it went. PR_SET_PDEATHSIG would not do: it reaches children only, not what
a worker or an API server started in turn; it fires when the *thread* that forked ends; and it exists on Linux
alone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import psutil

MARK = "MODEL_SERVICE_RUN"  # in the environment of every process of a run: which run
_GUARD_GRACE_S = 4.0
_KILL_S = 3.0  # how long SIGKILL may take; only a process stuck in the kernel needs longer


def of_run(run: str) -> list[psutil.Process]:
    """The processes of the run ``run``, its guard excepted."""
    roots = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == run:
                roots.append(process)
    return _with_descendants(roots)


def of_session(leader: int) -> list[psutil.Process]:
    """The processes of the session that ``leader`` opened, even when ``leader`` itself is dead."""
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getsid(process.pid) == leader:
                members.append(process)
    return _with_descendants(members)


def _with_descendants(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    found: dict[int, psutil.Process] = {}
    for root in roots:
        with contextlib.suppress(psutil.Error):
            found |= {process.pid: process for process in [root, *root.children(recursive=True)]}
    return [process for process in found.values() if _alive(process)]


def _alive(process: psutil.Process) -> bool:
    """A zombie is gone: it runs nothing and holds nothing, whoever is to collect it."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def is_alive(pid: int) -> bool:
    try:
        return _alive(psutil.Process(pid))
    except psutil.Error:
        return False


def _send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):  # psutil compares start times: a reused pid is left alone
            process.send_signal(number)


def end(
    members: Callable[[], list[psutil.Process]],
    grace_s: float,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """SIGTERM, then SIGKILL for what is left after ``grace_s`` (0: at once); returns when nothing is left.

    SIGTERM goes to the topmost processes, which end their own children in order: a worker whose conversion
    was ended behind its back would report the conversion as failed.
    """
    known = {process.pid: process for process in members()}
    asked: set[int] = set()
    deadline = time.monotonic() + grace_s
    while known:
        now = time.monotonic()
        if now > deadline + _KILL_S:
            return
        if now >= deadline:
            _send(known.values(), signal.SIGKILL)
        else:
            topmost = [known[pid] for pid in known.keys() - asked if _parent(known[pid]) not in known]
            _send(topmost, signal.SIGTERM)
            asked |= {process.pid for process in topmost}
        pause(0.05)
        # Looked up again, for what was started meanwhile; and remembered, because a process whose parent just
        # died may no longer be found.
        remembered = {pid: process for pid, process in known.items() if _alive(process)}
        known = {process.pid: process for process in members()} | remembered


def _parent(process: psutil.Process) -> int | None:
    try:
        return int(process.ppid())
    except psutil.Error:
        return None


@contextlib.contextmanager
def guarded(run: str, lock: int) -> Iterator[None]:
    """While this lasts, a guard stands by to end the processes of ``run`` should this process be killed.

    The guard inherits the file descriptor ``lock``, and with it the lock on the data folder: nobody else gets
    that before the processes are gone. At the end of the block it ends whatever is still there.
    """
    command = [sys.executable, "-P", __file__, run]  # -P: this folder has a redis.py
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[lock], start_new_session=True
    ) as guard:
        try:
            yield
        finally:
            assert guard.stdin is not None
            guard.stdin.close()
            guard.wait()


def _guard(run: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()  # ends when the launcher does: only it holds the other end
    end(lambda: of_run(run), _GUARD_GRACE_S)


if __name__ == "__main__":
    _guard(sys.argv[1])
