"""Confine a model host. Its process does this before it reads the first byte of a model.

The module needs only the standard library and ``exporters``: threads that were started before, for example by
numpy, would not be confined.
"""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import model_service
from exporters.sandbox import landlock, limits, seccomp

# Address space beyond the memory limit: libraries, stacks and arenas that are reserved and not used.
_ADDRESS_SPACE_BYTES = 64 << 30


def confine(folder: Path, memory_bytes: int, file_bytes: int, *, gpu: bool = False) -> dict[str, str]:
    """Restrict this process to reading the packages in ``folder``, and to its open sockets.

    Returns for ``network``, ``files`` and ``system_calls``: ``isolated``, or ``open: <reason>``.

    Args:
        file_bytes: the largest size of a shared memory.
    """
    limits.die_with_parent()
    with contextlib.suppress(OSError):  # if the machine runs out of memory, this process is killed first
        Path("/proc/self/oom_score_adj").write_text("1000")
    network = limits.isolate_network()
    code = Path(model_service.__file__).parent
    devices = list(_graphics()) if gpu else []
    files = landlock.confine([*landlock.interpreter_paths(), code, folder], [Path("/dev/null"), *devices])
    system_calls = seccomp.confine()
    limits.apply({"memory_bytes": memory_bytes, "file_bytes": file_bytes})
    if not gpu:  # a driver reserves addresses for all of the GPU's memory
        ceiling = memory_bytes + _ADDRESS_SPACE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    return {"network": network, "files": files, "system_calls": system_calls}


def _graphics() -> Iterator[Path]:
    for pattern in ("nvidia*", "dri"):
        yield from Path("/dev").glob(pattern)
