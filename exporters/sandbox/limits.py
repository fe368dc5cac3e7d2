"""The limits of a conversion, which its process sets before it reads the first untrusted byte.

This is for Linux. On other platforms the available limits are applied, and the return values report the rest.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import LimitExceeded, UnsupportedOption

NAMES = ("memory_bytes", "file_bytes", "cpu_s")

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CPU_GRACE_S = 5


def check(limits: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the limits that are set.

    Raises:
        UnsupportedOption: an unknown limit, or a value that is not a positive whole number.
    """
    given = {name: value for name, value in (limits or {}).items() if value is not None}
    for name, value in given.items():
        if name not in NAMES or not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise UnsupportedOption(
                f"The limit {name}={value} must be one of {', '.join(NAMES)} with a positive whole number.",
                allowed=list(NAMES),
                option="limits",
            )
    return given


def isolate_network() -> str:
    """Leave the network. Return ``isolated``, or ``open: <reason>``.

    Works only before a second thread starts.
    """
    if sys.platform != "linux":
        return f"open: not supported on {sys.platform}"
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return f"open: {os.strerror(ctypes.get_errno())}"
    # Keep the user's identity: without a map the user id is unknown, and some libraries need a home.
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return "isolated"


def die_with_parent() -> None:
    """Kill this process when the thread that started it ends, and never allow it to gain privileges."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def apply(limits: Mapping[str, int]) -> dict[str, int]:
    """Set the limits permanently, and return them. Memory counts allocations, not files that are mapped."""
    if sys.platform == "win32":
        return {}
    import resource

    _set(resource.RLIMIT_CORE, 0, 0)
    if "memory_bytes" in limits:
        _set(resource.RLIMIT_DATA, limits["memory_bytes"], limits["memory_bytes"])
    if "file_bytes" in limits:
        _set(resource.RLIMIT_FSIZE, limits["file_bytes"], limits["file_bytes"])
    if "cpu_s" in limits:
        signal.signal(signal.SIGXCPU, _out_of_time)
        _set(resource.RLIMIT_CPU, limits["cpu_s"], limits["cpu_s"] + _CPU_GRACE_S)
    return dict(limits)


def _set(which: int, soft: int, hard: int) -> None:
    """Set a limit, at most to this process's own limit."""
    import resource

    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))


def _out_of_time(signum: int, frame: object) -> None:
    raise LimitExceeded(
        "The conversion used all the processor time that it may use. Raise its time limit.", limit="cpu"
    )
