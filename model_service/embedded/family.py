"""The processes of one run, as their launcher sees them: the guard starts and ends them, and says when."""

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
    """One process. ``code`` is set when it has ended, and so has everything that it had started."""

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
        """For a selector: readable when ``receive`` has something to read."""
        return self._control.fileno()

    def environment(self) -> dict[str, str]:
        """For the processes of this run: their temporary files end with the run."""
        return os.environ | {"TMPDIR": str(self.folder), "PYTHONUNBUFFERED": "1"}

    def spawn(self, argv: Sequence[str], env: Mapping[str, str], output: int) -> Member:
        """Start a process whose stdout and stderr are the descriptor ``output``.

        Raises:
            OSError: not executable.
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
        """Ask for SIGTERM now and SIGKILL after ``grace_s``. Returns at once: ``code`` is set later."""
        pids = [member.pid for member in members if member.code is None]
        with self._guard_expected():
            self._control.sendall(json.dumps({"end": pids, "grace_s": grace_s}).encode() + b"\n")

    def receive(self) -> None:
        """Wait for news from the guard and take them in."""
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
    """A guard for as long as the block lasts; at its end, or when this process is killed, nothing is left.

    The guard and its children inherit the descriptor ``lock``, and with it the lock on ``data_dir``: no other
    launcher gets that before they are gone. The files of ``remove`` are removed as well. Between SIGTERM
    and SIGKILL are ``grace_s``.
    """
    folder = data_dir / "run"
    shutil.rmtree(folder, ignore_errors=True)  # of a run whose launcher and guard were both killed
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
        shutil.rmtree(folder, ignore_errors=True)  # the guard did it, unless it was killed


def is_alive(pid: int) -> bool:
    """A zombie is gone: it runs nothing and holds nothing, and waits for its parent alone."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
