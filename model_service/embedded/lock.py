"""One launcher per data folder: an flock on DATA/lock, whose content names the holder."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from model_service.embedded import family
from model_service.embedded.errors import DataFolderInUse, DataFolderUnusable

# After a launcher was killed, its guard and processes hold the lock until they have ended.
_CLEANUP_S = 10.0
_PATIENCE_S = 1.0  # wait for a launcher that is alive, since it may be about to end


@contextmanager
def locked(data_dir: Path) -> Iterator[int]:
    """Create ``data_dir`` (0700) if needed, and lock it. Yields the lock's descriptor.

    Raises:
        DataFolderInUse: a running launcher has the lock; the message contains its process id.
        DataFolderUnusable: the folder cannot be created or written.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        # flock instead of fcntl's record locks: they are not inherited, and any close of the file drops them.
        fd = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise DataFolderUnusable(
            f"The data folder {data_dir} cannot be used: {exc.strerror}. Choose another one with --data-dir."
        ) from None
    try:
        _acquire(fd, data_dir)
        _write(fd, {"pid": os.getpid()})
        try:
            yield fd
        finally:
            _write(fd, {})
    finally:
        os.close(fd)


def _acquire(fd: int, data_dir: Path) -> None:
    start = time.monotonic()
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _holder(fd).get("pid")
            patience_s = _PATIENCE_S if pid and family.is_alive(pid) else _CLEANUP_S
            if time.monotonic() - start > patience_s:
                raise DataFolderInUse(
                    f"{data_dir} is in use by process {pid or '(unknown)'}. Stop that one first, or choose "
                    "another folder with --data-dir."
                ) from None
            time.sleep(0.05)
        else:
            return


def _holder(fd: int) -> dict[str, Any]:
    """Return the holder; empty before the holder has written it, and after a clean end."""
    try:
        noted = json.loads(os.pread(fd, 4096, 0))
    except ValueError:
        return {}
    return noted if isinstance(noted, dict) else {}


def _write(fd: int, holder: dict[str, Any]) -> None:
    content = json.dumps(holder).encode()
    os.pwrite(fd, content, 0)
    os.ftruncate(fd, len(content))
