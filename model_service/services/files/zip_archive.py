"""A whole version as one zip, generated while it is sent. Its length is known before the first byte.

Nothing is compressed, since weights hardly get smaller. It contains no time stamps, so equal files give an
equal zip. The entries' checksums follow their data, as in every zip that is written to a stream.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zipfile import ZIP64_LIMIT, ZIP_FILECOUNT_LIMIT, ZIP_STORED, ZipFile, ZipInfo

from model_service.services.files.names import safe_filename
from model_service.storage.blobs.blobs import Blobs, blob_of
from model_service.storage.common.documents import FileHolder, StoredFile, StoredId

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can store
_MODE = 0o644 << 16
_UNIX = 3
# Bytes that zipfile writes around the data of an entry, and at the end; zip64 forms above ZIP64_LIMIT.
_LOCAL_HEADER, _LOCAL_ZIP64 = 30, 20
_DESCRIPTOR, _DESCRIPTOR_ZIP64 = 16, 24
_CENTRAL, _CENTRAL_ZIP64, _CENTRAL_ZIP64_FIELD = 46, 4, 8
_END, _END_ZIP64 = 22, 56 + 20
# zipfile uses the zip64 form from 5 % below the limit.
_ZIP64_FROM = ZIP64_LIMIT / 1.05


@dataclass(frozen=True)
class FileArchive:
    """The files of a version as a zip. ``etag`` identifies the content; the bytes also depend on zipfile."""

    filename: str
    size_bytes: int
    etag: str
    files: list[StoredFile]
    read: Callable[[StoredId, int, int], Iterator[bytes]]

    @classmethod
    def of(cls, model: FileHolder, blobs: Blobs) -> "FileArchive":
        files = sorted(model["files"], key=lambda file: str(file["path"]))
        digest = hashlib.sha256()
        for file in files:
            digest.update(f"{file['path']}\0{file['checksum']}\0".encode())
        name = safe_filename(f"{model['name'].rpartition('/')[2]}-{model['version']}.zip")
        sizes = [(file["path"], file["size_bytes"]) for file in files]
        return cls(name, zip_size(sizes), digest.hexdigest(), files, blobs.read)

    def pieces(self) -> Iterator[bytes]:
        sink = _Sink()
        with ZipFile(sink, "w", ZIP_STORED) as archive:
            for file in self.files:
                entry = ZipInfo(file["path"], _EPOCH)
                entry.file_size, entry.external_attr = file["size_bytes"], _MODE
                entry.create_system = _UNIX
                with archive.open(entry, "w") as target:
                    for piece in self.read(blob_of(file).id, 0, file["size_bytes"]):
                        target.write(piece)
                        yield from sink.take()
        yield from sink.take()


class _Sink:
    """A write-only file without seek that keeps written bytes until ``take``."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(piece)
        return len(piece)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> list[bytes]:
        taken, self._pieces = self._pieces, []
        return taken


def zip_size(files: list[tuple[str, int]]) -> int:
    """Return the size in bytes of a zip of these paths and file sizes, in this order."""
    offset = central = 0
    for path, size in files:
        name = len(path.encode())
        wide = size > _ZIP64_FROM
        fields = (2 if size > ZIP64_LIMIT else 0) + (1 if offset > ZIP64_LIMIT else 0)
        central += _CENTRAL + name + (_CENTRAL_ZIP64 + fields * _CENTRAL_ZIP64_FIELD if fields else 0)
        offset += _LOCAL_HEADER + name + (_LOCAL_ZIP64 if wide else 0)
        offset += size + (_DESCRIPTOR_ZIP64 if wide else _DESCRIPTOR)
    past = len(files) > ZIP_FILECOUNT_LIMIT or offset > ZIP64_LIMIT or central > ZIP64_LIMIT
    return offset + central + _END + (_END_ZIP64 if past else 0)
