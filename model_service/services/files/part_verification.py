"""Comparison of an upload's stored parts with their announced checksums."""

import hashlib
import time
from collections.abc import Callable, Iterable

from model_service.services.files.files import require_announced
from model_service.storage.blobs.blobs import Blob, BlobDamaged
from model_service.storage.blobs.chunks import Chunks
from model_service.storage.blobs.documents import PartUpload


class DamagedParts(Exception):
    """The stored bytes of these parts differ from the acknowledged ones."""

    def __init__(self, parts: list[int]) -> None:
        super().__init__(parts)
        self.parts = parts


def require_sha256(n: int, pieces: Iterable[bytes], announced: str) -> None:
    """Read and hash the bytes of a part without storing them.

    Raises:
        IncompleteUpload: the sha256 differs.
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    require_announced(f"Part {n} arrived with", digest.hexdigest(), announced)


def read_back(chunks: Chunks, upload: PartUpload, keep: Callable[[], None], keep_every_s: float) -> Blob:
    """Read the stored parts, compare each with its sha256, and return the blob of the whole.

    Args:
        upload: an upload with all its parts.
        keep: called about every ``keep_every_s`` and at the end; an error that it raises ends the reading.

    Raises:
        DamagedParts.
    """
    whole = hashlib.sha256()
    damaged = []
    kept = time.monotonic()
    begin = 0
    for n, part in sorted((int(n), part) for n, part in upload["parts"].items()):
        digest = hashlib.sha256()
        end = begin + part["size_bytes"]
        try:
            for piece in chunks.read(upload["_id"], begin, end):
                digest.update(piece)
                whole.update(piece)
                if time.monotonic() - kept > keep_every_s:
                    keep()
                    kept = time.monotonic()
        except BlobDamaged:
            damaged.append(n)
        else:
            if digest.hexdigest() != part["sha256"]:
                damaged.append(n)
        begin = end
    if damaged:
        raise DamagedParts(damaged)
    keep()
    return Blob(upload["_id"], whole.hexdigest(), upload["size_bytes"])
