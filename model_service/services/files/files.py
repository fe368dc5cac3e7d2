"""A stored file that can be sent, and a new one that comes in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model_service.errors import IncompleteUpload
from model_service.services.files.names import (
    OCTET_STREAM,
    check_format,
    check_new_path,
    download_name,
    media_type,
)
from model_service.storage.blobs.blobs import Blob, Blobs


@dataclass(frozen=True)
class StoredFile:
    """``read(start, stop)`` gives the bytes ``[start, stop)`` in pieces; nothing is read before that."""

    filename: str
    sha256: str
    size_bytes: int
    read: Callable[[int, int], Iterator[bytes]]
    content_type: str = OCTET_STREAM

    @classmethod
    def of(cls, blob: Blob, filename: str, blobs: Blobs, content_type: str = OCTET_STREAM) -> "StoredFile":
        return cls(
            filename,
            blob.sha256,
            blob.size_bytes,
            lambda start, stop: blobs.send(blob, start, stop),
            content_type,
        )


@dataclass(frozen=True)
class NewFile:
    """Where a file goes in its version, and what it is there.

    Args:
        path: a checked one.
        primary: make it the primary file; else it is only where there is no other.
        replaces_primary: instead of the present primary file, wherever that is.
        filename, file_format: of the primary file; None: as the path tells.
    """

    path: str
    content_type: str = OCTET_STREAM
    primary: bool = False
    replaces_primary: bool = False
    filename: str | None = None
    file_format: str | None = None
    may_be_empty: bool = True

    @classmethod
    def at(
        cls,
        path: str,
        *,
        content_type: str | None = None,
        primary: bool = False,
        file_format: str | None = None,
    ) -> "NewFile":
        """A file at a path. Raises: InvalidField: no path, or no known format."""
        checked = check_format(file_format) if file_format else None
        return cls(check_new_path(path), media_type(content_type), primary, file_format=checked)

    @classmethod
    def of_holder(cls, holder: str, filename: str | None, file_format: str | None = None) -> "NewFile":
        """The own file of what has that name, instead of the one it had.

        Raises:
            InvalidField: no known format.
        """
        checked = check_format(file_format) if file_format else None
        name = download_name(filename, holder.rpartition("/")[2], checked)
        return cls(
            name,
            primary=True,
            replaces_primary=True,
            filename=name,
            file_format=checked,
            may_be_empty=False,
        )


def require_announced(what: str, sha256: str, announced: str | None) -> None:
    """Raises: IncompleteUpload: ``what`` has another sha256 than was announced."""
    if announced is not None and announced.lower() != sha256:
        raise IncompleteUpload(
            f"{what} sha256 {sha256}, not the announced one.", expected=announced, actual=sha256
        )
