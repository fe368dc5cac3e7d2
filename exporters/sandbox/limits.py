"""What a conversion may use, set by itself before it reads the first untrusted byte.

On Linux. Elsewhere what the platform has is applied, and the answer says what is open.
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
    """The limits that are set.

    Raises:
        UnsupportedOption: an unknown one, or not a positive whole number.
    """
    given = {name: value for name, value in (limits or {}).items() if value is not None}
    for name, value in given.items():
        if name not in NAMES or not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise UnsupportedOption(
                f"The limit {name}={value} is not one of {', '.join(NAMES)} with a positive whole number.",
                allowed=list(NAMES),
                option="limits",
            )
    return given


def isolate_network() -> str:
    """Leave the network: ``isolated``, or ``open: <reason>``. Works only before there is a second thread."""
    if sys.platform != "linux":
        return f"open: not supported on {sys.platform}"
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return f"open: {os.strerror(ctypes.get_errno())}"
    # Keep our own identity: without a map the process is nobody, and some libraries look for a home.
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return "isolated"


def die_with_parent() -> None:
    """Be killed when the thread that started this process ends, and never gain privileges."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def apply(limits: Mapping[str, int]) -> dict[str, int]:
    """Set the limits for good; what was applied. Memory is what is allocated, not files that are mapped."""
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
    """Never above what this process was itself given."""
    import resource

    _, ceiling = resource.getrlimit(which)
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))


def _out_of_time(signum: int, frame: object) -> None:
    raise LimitExceeded("The conversion used up its processor time. Raise its time limit.", limit="cpu")
