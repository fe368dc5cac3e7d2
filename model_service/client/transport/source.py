"""The source of an upload: a file, or the rest of a seekable file object."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from model_service.client.errors import InvalidArgument, NoSuchFile, TransferFailed

CHUNK_BYTES = 1 << 20

Uploadable = str | os.PathLike[str] | BinaryIO


@dataclass
class Source:
    file: BinaryIO
    start: int
    size_bytes: int
    name: str
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def pieces(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from ``offset``; several threads may read at the same time.

        Raises:
            TransferFailed: the file has become shorter.
            OSError: it cannot be read.
        """
        end = self.size_bytes if length is None else offset + length
        while offset < end:
            with self._lock:
                self.file.seek(self.start + offset)
                piece = self.file.read(min(CHUNK_BYTES, end - offset))
            if not piece:
                raise TransferFailed(
                    f"The file ended after {offset:,} of {self.size_bytes:,} bytes: is another "
                    "program still writing it?"
                )
            yield piece
            offset += len(piece)


@contextmanager
def opened(source: Uploadable, filename: str | None) -> Iterator[Source]:
    """Open the source while the block runs.

    Raises:
        NoSuchFile: there is no such file.
        InvalidArgument: its length is unknown.
        OSError: the file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.exists():
            raise NoSuchFile(f"There is no file {path}.")
        with path.open("rb") as file:
            yield _source(file, filename or path.name)
        return
    if not source.seekable():
        raise InvalidArgument("Only a seekable file can be uploaded, because its length is sent first.")
    yield _source(source, filename or Path(str(getattr(source, "name", "model.bin"))).name)


def _source(file: BinaryIO, name: str) -> Source:
    start = file.tell()
    return Source(file, start, file.seek(0, os.SEEK_END) - start, name)
