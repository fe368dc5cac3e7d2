"""Files and folders that are there as a whole or not at all, also after a power failure."""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

from exporters.errors import PackageCorrupt

UNFINISHED = ".unfinished-"
_ABANDONED_S = 60
_CHUNK_BYTES = 1 << 20


@contextmanager
def unfinished(root: Path) -> Iterator[Path]:
    """Yield a new folder, which is locked against removal by others. What is not renamed is removed."""
    folder = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=root))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    """Remove the unfinished folders of killed processes: their locks are free."""
    for folder in root.glob(f"{UNFINISHED}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _ABANDONED_S:
                continue  # perhaps not locked yet
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder, durably. Raises: OSError: the target exists."""
    folder.chmod(0o755)
    sync_folder(folder)
    folder.rename(target)
    sync_folder(target.parent)


def open_plain(path: Path) -> BufferedReader:
    """Open a file for reading. Raises: OSError: it is missing, or a link."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def copy_file(source: Path, target: Path) -> str:
    """Copy and sync a file. Returns its sha256."""
    digest = hashlib.sha256()
    with open_plain(source) as file, target.open("xb") as copy:
        while piece := file.read(_CHUNK_BYTES):
            digest.update(piece)
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def write_file(path: Path, content: bytes) -> None:
    """Write and sync a new file."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder's plain files, and sync them. Raises: PackageCorrupt: it has anything else."""
    if source.is_symlink():
        raise PackageCorrupt(f"{source.name} is a link.", file=source.name)
    target.mkdir(exist_ok=True)
    for entry in sorted(source.iterdir()):
        mode = entry.lstat().st_mode
        if stat.S_ISDIR(mode):
            copy_tree(entry, target / entry.name)
        elif stat.S_ISREG(mode):
            copy_file(entry, target / entry.name)
        else:
            raise PackageCorrupt(f"{entry.name} is not a plain file.", file=entry.name)
    sync_folder(target)
