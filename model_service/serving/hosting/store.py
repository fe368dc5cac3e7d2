"""Packages on this machine's disk: downloaded once, named by content, never visible half-written.

    <home>/serving/
    ├── <sha256 of the package>/     verified, on disk to the last byte, then renamed to this name
    └── .fetch-XXXX/ .removed-XXXX/  temporary: downloads and removals

The processes of a machine share the folder. A process that loads or serves a package holds a lock (flock) on
its folder; the kernel releases it when the process ends. Within a process, one thread uses the store.
"""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import structlog

from exporters import package as packages
from exporters.errors import PackageCorrupt
from model_service.storage.blobs.blobs import Blob, Blobs, blob_of
from model_service.storage.common.documents import BlobReference

log = structlog.get_logger(__name__)

# Between its creation and its lock, a temporary folder is protected by its age only.
_LEFT_BEHIND_S = 3600


class PackageStore:
    def __init__(self, blobs: Blobs, folder: Path) -> None:
        self._blobs = blobs
        self.folder = folder
        self._locks: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def fetch(self, reference: BlobReference) -> Path:
        """Return the unpacked package, just verified. It stays until ``keep_only`` is called without it.

        Raises:
            BlobDamaged, PackageCorrupt: the stored package is incomplete or damaged. A damaged copy on this
                disk raises nothing and is replaced.
            OSError: this disk is full, or cannot be used.
        """
        blob = blob_of(reference)
        final = self.folder / blob.sha256
        if self._lock(final):
            try:
                packages.verify(final)
                return final
            except PackageCorrupt as exc:
                log.warning("serving.cached_package_damaged", package=blob.sha256, error=exc.message)
                self._remove(final)
        while True:
            self._download(blob, final)
            if self._lock(final):  # otherwise another server removed it in between
                return final

    def keep_only(self, references: Iterable[BlobReference]) -> None:
        """Release every other package; remove unused ones, and what killed processes left behind."""
        wanted = {blob_of(reference).sha256 for reference in references}
        for name in self._locks.keys() - wanted:
            os.close(self._locks.pop(name))
        for folder in self.folder.iterdir():
            passing = folder.name.startswith(".")
            if folder.name in wanted or (passing and _age_s(folder) < _LEFT_BEHIND_S):
                continue
            fd = _open_locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if fd is not None:
                self._remove(folder)
                os.close(fd)

    def _lock(self, final: Path) -> bool:
        """Lock the package; return False if it does not exist."""
        held = self._locks.pop(final.name, None)
        if held is not None:  # possibly the lock of a damaged copy that another process replaced
            os.close(held)
        fd = _open_locked(final, fcntl.LOCK_SH)
        if fd is not None:
            self._locks[final.name] = fd
        return fd is not None

    def _download(self, blob: Blob, final: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = Path(tempfile.mkdtemp(prefix=".fetch-", dir=self.folder))
        lock = _open_locked(aside, fcntl.LOCK_SH)
        try:
            archive = aside / "package.zip"
            with archive.open("wb") as file:
                for piece in self._blobs.read(blob.id, 0, blob.size_bytes):
                    file.write(piece)
            unpacked = aside / "package"
            packages.unpack(archive, unpacked)
            packages.verify(unpacked)
            _flush(unpacked)
            try:
                unpacked.rename(final)
            except OSError:
                if not final.is_dir():  # otherwise another process was first
                    raise
            _fsync(self.folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            if lock is not None:
                os.close(lock)

    def _remove(self, folder: Path) -> None:
        """Remove a package by renaming it first. A process that has loaded it keeps its mapped files."""
        aside = self.folder / f".removed-{uuid.uuid4().hex}"
        try:
            folder.rename(aside)
        except FileNotFoundError:  # another process was first
            return
        shutil.rmtree(aside, ignore_errors=True)


def _open_locked(folder: Path, operation: int) -> int | None:
    """Return a descriptor that holds the lock; None if the folder does not exist or is locked."""
    while True:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, operation)
            if _is(fd, folder):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was removed or replaced before the lock: try again


def _is(fd: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), folder.stat())
    except FileNotFoundError:
        return False


def _age_s(folder: Path) -> float:
    try:
        return time.time() - folder.stat().st_mtime
    except FileNotFoundError:
        return 0


def _flush(folder: Path) -> None:
    """Write the files to disk: otherwise a power failure can leave empty files under the new name."""
    for root, _, names in os.walk(folder):
        for name in names:
            _fsync(Path(root) / name)
        _fsync(Path(root))


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
