"""Child processes: how one that handles uploaded files is started, how a group is killed, how one ended."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def start(command: Sequence[str], folder: Path, **options: Any) -> subprocess.Popen[bytes]:
    """Start a process in ``folder``, with an environment that names this folder and nothing else.

    It leads a session and a process group: the terminal's Ctrl-C does not reach it, and ``kill_group`` ends
    its children too.

    Args:
        options: streams and descriptors, as for ``subprocess.Popen``.

    Raises:
        OSError: no process can be started now.
    """
    environment = {"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, **options)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that ``start`` has started, and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ending(returncode: int) -> str:
    """Return how a process ended: the signal's name, or its exit code."""
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return signal.Signals(-returncode).name
    except ValueError:  # a real-time signal
        return f"signal {-returncode}"
