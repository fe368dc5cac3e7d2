"""Read a file that joblib compressed, up to a limit of uncompressed bytes."""

import bz2
import gzip
import io
import lzma
from pathlib import Path
from typing import IO, Any, cast

from ..errors import InvalidSource

# A memory limit stops a decompression bomb too, but only after it has used that memory.
LIMIT_BYTES = 8 << 30
# The first bytes of each format, by which joblib recognises it.
MAGICS = {
    "zlib": (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
    "gzip": (b"\x1f\x8b",),
    "bz2": (b"BZh",),
    "xz": (b"\xfd7zXZ",),
    "lzma": (b"\x5d\x00",),
    "lz4": (b"\x04\x22\x4d\x18",),
}


def compression(head: bytes) -> str | None:
    """Return the compression that the first bytes indicate, a key of MAGICS."""
    return next((name for name, magics in MAGICS.items() if head.startswith(magics)), None)


def open_bounded(path: Path, limit_bytes: int = LIMIT_BYTES) -> IO[bytes]:
    """Open the file, decompressed if necessary. Reading past ``limit_bytes`` raises InvalidSource.

    Raises:
        InvalidSource: compressed with lz4, which Python does not read.
    """
    with path.open("rb") as file:
        kind = compression(file.read(8))
    if kind is None:
        return path.open("rb")
    if kind == "lz4":
        raise InvalidSource("The file is compressed with lz4. Save it with joblib.dump(..., compress=3).")
    if kind == "zlib":
        from joblib.compressor import BinaryZlibFile

        stream: Any = BinaryZlibFile(str(path), "rb")
    else:
        openers: dict[str, Any] = {"gzip": gzip.open, "bz2": bz2.open, "xz": lzma.open, "lzma": lzma.open}
        stream = openers[kind](path, "rb")
    return cast(IO[bytes], io.BufferedReader(_Bounded(stream, limit_bytes), 1 << 16))


class _Bounded(io.RawIOBase):
    def __init__(self, stream: IO[bytes], limit_bytes: int) -> None:
        self._stream = stream
        self._limit = self._left = limit_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise InvalidSource(
                f"The file unpacks to more than {self._limit:,} bytes. Save it without compression."
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
