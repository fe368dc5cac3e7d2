"""Confine this process to some folders, with Linux's Landlock.

It needs no privilege, is permanent, and applies to every child process.
https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture since Linux 5.13
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_TRUNCATE = 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# Every right of each version of the interface: a right that is not handled is not restricted.
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}


def confine(readable: Iterable[Path], writable: Iterable[Path]) -> str:
    """Allow opening only files below these paths from now on. Return ``isolated``, or ``open: <reason>``.

    It applies to the calling thread and the threads that it starts later: call it before starting threads.
    """
    if sys.platform != "linux":
        return f"open: not supported on {sys.platform}"
    try:
        version = _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
        rights = _KNOWN[min(version, max(_KNOWN))]
        handled = ctypes.create_string_buffer(struct.pack("=Q", rights), 8)
        ruleset = _syscall(_CREATE_RULESET, handled, ctypes.c_size_t(8), 0)
        try:
            for path in readable:
                _allow(ruleset, path, _READ)
            for path in writable:
                _allow(ruleset, path, rights)
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            _syscall(_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)
    except OSError as exc:
        return f"open: {exc.strerror}"
    return "isolated"


def confine_to(folder: Path) -> str:
    """Let this process read only its interpreter and write only ``folder``; see ``confine``."""
    return confine(interpreter_paths(), [folder, Path("/dev/null")])


def interpreter_paths() -> list[Path]:
    """Return the paths from which this Python and its libraries are read."""
    system = ["/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime", "/sys"]
    system += [
        "/dev/urandom",
        "/dev/zero",
        "/proc/cpuinfo",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/self",
        "/proc/sys",
    ]
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path(__file__).parents[1])]
    # The sys.path entry of an editable install is a whole checkout with all its other files.
    packages = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages", ".zip"))]
    return [Path(entry) for entry in dict.fromkeys([*system, *own, *packages])]


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        _syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: object) -> int:
    """Call the system call. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
