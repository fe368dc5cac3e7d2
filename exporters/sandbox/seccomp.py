"""Permanently deny this process the system calls that reach another process or the network.

A seccomp filter needs no privilege and no version of Landlock; it applies to every later thread and child.
https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterator

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_CLONE_THREAD = 0x00010000

# Name → number on x86_64 and on aarch64; None: the architecture has no such call.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # sockets; io_uring can create them too, bypassing this filter
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # programs
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    # other processes of the same user
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "kcmp": (312, 272),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # memory that no limit of this process counts, or that other processes can see
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # changes of files that Landlock does not restrict
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
    # interfaces of the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_OF_THIS_PROCESS = ((62, 129), (234, 131))  # kill and tgkill: abort() and raise() use the latter
_PRLIMIT = (302, 261)  # glibc's getrlimit passes process 0, the caller
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH


def confine() -> str:
    """Refuse these calls with EPERM from now on. Return ``isolated``, or ``open: <reason>``.

    Existing threads go on; no child process, program or socket can be created. It applies to the calling
    thread and the threads that it starts later: call it before starting threads.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _MACHINES:
        return f"open: not supported on {sys.platform} {machine}"
    column, architecture = _MACHINES[machine]
    code = b"".join(_program(column, architecture))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(header), 0, 0) != 0:
        return f"open: {os.strerror(ctypes.get_errno())}"
    return "isolated"


def _program(column: int, architecture: int) -> Iterator[bytes]:
    """Yield instructions of classic BPF. A jump has the number of instructions that it skips."""
    refuse = _return(_ERRNO | errno.EPERM)
    yield _instruction(_LOAD, 0, 0, _ARCHITECTURE)
    yield _instruction(_EQUAL, 1, 0, architecture)
    yield refuse
    yield _instruction(_LOAD, 0, 0, _NUMBER)
    yield _instruction(_AT_LEAST, 0, 1, _X32)  # x86_64's second set of numbers for the same calls
    yield refuse
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            yield _instruction(_EQUAL, 0, 1, number)
            yield refuse
    yield _instruction(_EQUAL, 0, 1, _CLONE3[column])
    yield _return(_ERRNO | errno.ENOSYS)  # a filter cannot read its flags: glibc then uses clone
    yield _instruction(_EQUAL, 0, 4, _CLONE[column])
    yield _instruction(_LOAD, 0, 0, _FIRST_ARGUMENT)
    yield _instruction(_ANY_BIT, 1, 0, _CLONE_THREAD)
    yield refuse
    yield _return(_ALLOW)
    for numbers, process in ((_PRLIMIT, 0), *((each, os.getpid()) for each in _OF_THIS_PROCESS)):
        yield _instruction(_EQUAL, 0, 4, numbers[column])
        yield _instruction(_LOAD, 0, 0, _FIRST_ARGUMENT)
        yield _instruction(_EQUAL, 1, 0, process)
        yield refuse
        yield _return(_ALLOW)
    yield _return(_ALLOW)


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _return(value: int) -> bytes:
    return _instruction(_RETURN, 0, 0, value)
