"""Disk cache of blobs that are read repeatedly, shared by the processes of a machine.

    CACHE_DIR/
        blobs/<sha256>      complete and verified; its modification time is its last use
        filling/<sha256>    being written, locked by its writer; renamed into blobs/ once it is verified
        lock                held while space is freed

The second request for a blob in a process stores it in the cache, in a background thread, so a download that
happens once costs nothing. After any error of the cache, even a full disk, the bytes come from MongoDB. A
file that is evicted while it is sent stays readable until it is closed.
"""

import fcntl
import hashlib
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Lock, Thread

import structlog

from model_service.metrics import CACHE_BYTES, CACHE_REQUESTS

log = structlog.get_logger(__name__)

# The size that granian sends fastest, as fast as nginx with sendfile: a piece fits the processor's cache.
PIECE_BYTES = 256 * 1024
# Maximum number of blobs requested once that a process remembers.
_REMEMBERED = 10_000
# Free disk space that the cache leaves: it shares the disk with MongoDB, which stops without space.
_SPARE_BYTES = 1 << 30

Read = Callable[[], Iterator[bytes]]


class DiskCache:
    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Creates folders only when the first blob is stored. ``max_bytes=0`` disables the cache."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._missed: OrderedDict[str, None] = OrderedDict()
        self._lock = Lock()
        self._filling = Lock()

    def read(self, sha256: str, size_bytes: int, start: int, stop: int) -> Iterator[bytes] | None:
        """Return the bytes ``[start, stop)`` from a file that is open already; None: not in the cache."""
        if not self._max_bytes:
            return None
        file = self._open(sha256, size_bytes)
        CACHE_REQUESTS.labels(outcome="hit" if file else "miss").inc()
        if file is None:
            return None
        CACHE_BYTES.labels(what="sent").inc(stop - start)
        return _pieces(file, start, stop)

    def _open(self, sha256: str, size_bytes: int) -> FileIO | None:
        path = self._folder / "blobs" / sha256
        try:
            file = FileIO(path)
        except OSError:
            return None
        if os.fstat(file.fileno()).st_size != size_bytes:
            file.close()
            log.warning("cache.damaged", file=sha256)
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(file.fileno())
        return file

    def record_miss(self, sha256: str, size_bytes: int, read: Read) -> None:
        """Record a cache miss. The second miss of a blob stores it in the background, from ``read()``."""
        if not 0 < size_bytes <= self._max_bytes:
            return
        with self._lock:
            if sha256 not in self._missed:
                self._missed[sha256] = None
                if len(self._missed) > _REMEMBERED:
                    self._missed.popitem(last=False)
                return
        if self._filling.acquire(blocking=False):  # one blob at a time; the next request tries again
            Thread(target=self._fill_aside, args=(sha256, size_bytes, read), daemon=True).start()

    def _fill_aside(self, sha256: str, size_bytes: int, read: Read) -> None:
        try:
            self.fill(sha256, size_bytes, read)
        except Exception as exc:  # does not affect the download
            log.warning("cache.not_filled", file=sha256, reason=str(exc) or type(exc).__name__)
        finally:
            self._filling.release()

    def fill(self, sha256: str, size_bytes: int, read: Read) -> bool:
        """Store a blob; False if it is cached, another process stores it, or the space is not enough.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
            ValueError: the sha256 of the bytes is wrong.
        """
        blobs, filling = self._folder / "blobs", self._folder / "filling"
        for folder in (blobs, filling):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = filling / sha256
        descriptor = _lock_new(aside)
        if descriptor is None:
            return False
        try:
            if (blobs / sha256).exists() or not self._make_room(descriptor, size_bytes):
                return False
            _write_verified(descriptor, read(), sha256)
            # The file has its length before its bytes: after a power loss, it could otherwise contain zeros.
            os.fsync(descriptor)
            aside.rename(blobs / sha256)
        finally:
            with suppress(FileNotFoundError):  # renamed, unless an error occurred
                aside.unlink()
            os.close(descriptor)
        CACHE_BYTES.labels(what="stored").inc(size_bytes)
        return True

    def _make_room(self, descriptor: int, size_bytes: int) -> bool:
        """Evict the least recently used files until ``size_bytes`` more fit, and reserve the space.

        The reservation is the length of the file in ``filling``, which every other process counts.
        """
        with self._exclusive():
            self._remove_leftovers()
            os.ftruncate(descriptor, 0)
            # In this order a file that is renamed meanwhile is counted twice instead of never.
            claimed = sum(size for _, size, _ in _sizes(self._folder / "filling"))
            files = sorted(_sizes(self._folder / "blobs"))
            used = sum(size for _, size, _ in files)
            free = shutil.disk_usage(self._folder).free
            excess = size_bytes + max(claimed + used - self._max_bytes, _SPARE_BYTES - free)
            if excess > used:
                return False
            for _, size, path in files:
                if excess <= 0:
                    break
                path.unlink(missing_ok=True)
                CACHE_BYTES.labels(what="evicted").inc(size)
                excess -= size
            os.posix_fallocate(descriptor, 0, size_bytes)
            return True

    def _remove_leftovers(self) -> None:
        """Remove the unfinished files of dead processes: nobody holds their locks."""
        for path in (self._folder / "filling").iterdir():
            descriptor = _lock_new(path)
            if descriptor is not None:
                path.unlink(missing_ok=True)
                os.close(descriptor)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _lock_new(path: Path) -> int | None:
    """Open or create the file at ``path`` and lock it; None: another process or thread holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its holder may have renamed or removed it between open and flock.
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
    except BlockingIOError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _write_verified(descriptor: int, pieces: Iterator[bytes], sha256: str) -> None:
    digest = hashlib.sha256()
    offset = 0
    for piece in pieces:
        digest.update(piece)
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(descriptor, rest, offset)
            offset += written
            rest = rest[written:]
    if digest.hexdigest() != sha256:
        raise ValueError(f"the stored bytes have sha256 {digest.hexdigest()}")


def _pieces(file: FileIO, start: int, stop: int) -> Iterator[bytes]:
    with file:
        while start < stop:
            piece = os.pread(file.fileno(), min(PIECE_BYTES, stop - start), start)
            if not piece:
                raise OSError("the cached file became shorter while it was sent")
            start += len(piece)
            yield piece


def _sizes(folder: Path) -> list[tuple[int, int, Path]]:
    """Return (last use, size, path) of the files in a folder; files removed meanwhile are left out."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    return found
