"""The launcher's client of the guard, which starts and ends processes and reports their exits."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from model_service.embedded.errors import GuardLost

_READ_BYTES = 65_536
_GRACE_S = 4.0


@dataclass
class Member:
    """One process. ``code`` is set when it and everything that it started have ended."""

    pid: int
    code: int | None = None


class Family:
    """Client of the guard (``model_service/guard.py``). Raises GuardLost when the guard was killed."""

    def __init__(self, control: socket.socket, folder: Path) -> None:
        self.folder = folder
        self._control = control
        self._members: dict[int, Member] = {}
        self._partial = b""

    def fileno(self) -> int:
        """Return the descriptor for a selector; it is readable when ``receive`` has data to read."""
        return self._control.fileno()

    def environment(self) -> dict[str, str]:
        """Return the environment for processes of this run; it places temporary files in the run's folder."""
        return os.environ | {"TMPDIR": str(self.folder), "PYTHONUNBUFFERED": "1"}

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], output: int) -> Member:
        """Start a process whose stdout and stderr are the descriptor ``output``.

        Raises:
            OSError: the file is not executable.
        """
        message = json.dumps({"spawn": list(argv), "env": dict(env)}).encode() + b"\n"
        with self._guard_expected():
            sent = socket.send_fds(self._control, [message], [output])
            self._control.sendall(message[sent:])
        while True:
            for answer in self._read():
                if "spawned" in answer:
                    return self._members[answer["spawned"]]
                if "refused" in answer:
                    raise OSError(answer["refused"], os.strerror(answer["refused"]), argv[0])

    def end(self, members: Iterable[Member], grace_s: float) -> None:
        """Request SIGTERM now and SIGKILL after ``grace_s``. Returns at once; ``code`` is set later."""
        pids = [member.pid for member in members if member.code is None]
        with self._guard_expected():
            self._control.sendall(json.dumps({"end": pids, "grace_s": grace_s}).encode() + b"\n")

    def receive(self) -> None:
        """Wait for messages from the guard and process them."""
        self._read()

    def _read(self) -> list[dict[str, Any]]:
        with self._guard_expected():
            data = self._control.recv(_READ_BYTES)
        if not data:
            raise GuardLost
        *lines, self._partial = (self._partial + data).split(b"\n")
        messages = [json.loads(line) for line in lines]
        for message in messages:
            if "spawned" in message:
                self._members[message["spawned"]] = Member(message["spawned"])
            elif "exited" in message:
                self._members.pop(message["exited"]).code = message["code"]
        return messages

    @contextlib.contextmanager
    def _guard_expected(self) -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            raise GuardLost from None


@contextlib.contextmanager
def guarded(
    data_dir: Path, lock: int, *, remove: Sequence[Path] = (), grace_s: float = _GRACE_S
) -> Iterator[Family]:
    """Run a guard during the block. At its end, or if this process is killed, all processes are ended.

    The guard and its children inherit the descriptor ``lock``, and with it the lock on ``data_dir``: no other
    launcher can acquire it before they have ended. The files in ``remove`` are removed as well. SIGKILL
    follows SIGTERM after ``grace_s``.
    """
    folder = data_dir / "run"
    shutil.rmtree(folder, ignore_errors=True)  # left by a run whose launcher and guard were both killed
    folder.mkdir(mode=0o700)
    ours, theirs = socket.socketpair()
    removals = [word for path in [folder, *remove] for word in ("--remove", str(path))]
    command = [sys.executable, "-m", "model_service.guard", "--control", str(theirs.fileno())]
    with theirs:
        guard = subprocess.Popen(
            [*command, "--lock", str(lock), "--grace-s", str(grace_s), *removals],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno(), lock],
            start_new_session=True,
        )
    try:
        yield Family(ours, folder)
    finally:
        ours.close()
        guard.wait()
        shutil.rmtree(folder, ignore_errors=True)  # in case the guard was killed before it did this


def is_alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not: it only waits for its parent."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
