"""Read members of an untrusted zip, with limits on their number and on the bytes that they unpack to.

Nothing is written to the disk, so the names of members are only compared.
"""

import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from ..errors import InvalidDataset

MAX_MEMBERS = 1_000_000
# A small file may unpack to this much, a large one to ten times its size.
MAX_UNPACKED_BYTES = 8 << 30
_MAX_RATIO = 10
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class Archive:
    """An open zip. ``names``: its members without folders, in the order of the archive."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidDataset(f"There is no file {path.name}.")
        size = path.stat().st_size
        if not size:
            raise InvalidDataset("The dataset's file is empty. Upload it again.")
        self._limit = max(MAX_UNPACKED_BYTES, _MAX_RATIO * size)
        with damage("archive"):
            self._zip = zipfile.ZipFile(path)
        members = [member for member in self._zip.infolist() if not member.is_dir()]
        if len(members) > MAX_MEMBERS:
            raise InvalidDataset(f"The archive has more than {MAX_MEMBERS:,} files. Split the dataset.")
        if sum(member.file_size for member in members) > self._limit:
            raise self._too_large()
        for member in members:
            if member.compress_type not in _METHODS:
                raise InvalidDataset(
                    f"{member.filename[:80]!r} is compressed with a method that is not supported. "
                    "Write the archive stored or deflated."
                )
        self._members = {member.filename: member for member in members}

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def size(self, name: str) -> int:
        """Return the number of bytes that the member declares to unpack to."""
        return self._members[name].file_size

    def open(self, name: str) -> IO[bytes]:
        """Open a member for one pass. Reading more than the limit raises InvalidDataset."""
        with damage(name):
            return cast(
                IO[bytes], _Counted(self._zip.open(self._members[name]), self._limit, self._too_large)
            )

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Return a member's bytes. Raises InvalidDataset: it is larger than ``limit_bytes``, or damaged."""
        if self.size(name) > limit_bytes:
            raise InvalidDataset(f"{name[:80]!r} has more than {limit_bytes:,} bytes.")
        with self.open(name) as file, damage(name):
            return file.read(limit_bytes)

    def _too_large(self) -> InvalidDataset:
        return InvalidDataset(
            f"The dataset's file unpacks to more than {self._limit:,} bytes, which is the limit for its "
            "size. Store it without compression, or split it."
        )


@contextmanager
def damage(name: str) -> Iterator[None]:
    """Convert the errors of reading a damaged or encrypted zip to InvalidDataset."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError) as exc:
        raise InvalidDataset(
            f"The dataset's file is no zip archive, or {name[:80]!r} in it is damaged. Upload it again."
        ) from exc
    except RuntimeError as exc:
        raise InvalidDataset(
            f"{name[:80]!r} cannot be read: {str(exc)[:100]}. Write the archive without encryption."
        ) from exc


class _Counted:
    """Counts the bytes that were read: an archive may declare wrong sizes."""

    def __init__(self, file: IO[bytes], limit: int, too_large: Callable[[], InvalidDataset]) -> None:
        self._file = file
        self._left = limit
        self._too_large = too_large

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(data)
        if self._left < 0:
            raise self._too_large()
        return data

    def __enter__(self) -> "_Counted":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
