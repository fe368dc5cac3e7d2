"""A stored file that can be sent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model_service.storage.blobs import Blob, Blobs


@dataclass(frozen=True)
class StoredFile:
    """``read(start, stop)`` gives the bytes ``[start, stop)`` in pieces; nothing is read before that."""

    filename: str
    sha256: str
    size_bytes: int
    read: Callable[[int, int], Iterator[bytes]]

    @classmethod
    def of(cls, blob: Blob, filename: str, blobs: Blobs) -> "StoredFile":
        return cls(
            filename, blob.sha256, blob.size_bytes, lambda start, stop: blobs.read(blob.id, start, stop)
        )
