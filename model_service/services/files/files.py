"""A stored file ready for download, and a description of a new file to store."""

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
from model_service.storage.blobs.documents import PlannedFile


@dataclass(frozen=True)
class StoredFile:
    """A file for download. ``read(start, stop)`` yields the bytes ``[start, stop)`` and reads them lazily."""

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
    """Path and role of a new file in its version.

    Args:
        path: a validated path.
        primary: make it the primary file; otherwise it becomes primary only if the version has none.
        replaces_primary: replace the present primary file, whatever its path.
        filename, file_format: name and format of the primary file; None: derived from the path.
    """

    path: str
    content_type: str = OCTET_STREAM
    primary: bool = False
    replaces_primary: bool = False
    filename: str | None = None
    file_format: str | None = None
    may_be_empty: bool = True

    def planned(self) -> PlannedFile:
        """Return the form in which an upload in parts stores it."""
        return {
            "path": self.path,
            "content_type": self.content_type,
            "primary": self.primary,
            "replaces_primary": self.replaces_primary,
            "filename": self.filename,
            "file_format": self.file_format,
            "may_be_empty": self.may_be_empty,
        }

    @classmethod
    def at(
        cls,
        path: str,
        *,
        content_type: str | None = None,
        primary: bool = False,
        file_format: str | None = None,
    ) -> "NewFile":
        """Describe a file at a path. Raises: InvalidField: the path is invalid or the format unknown."""
        checked = check_format(file_format) if file_format else None
        return cls(check_new_path(path), media_type(content_type), primary, file_format=checked)

    @classmethod
    def of_holder(cls, holder: str, filename: str | None, file_format: str | None = None) -> "NewFile":
        """Describe the primary file of a model or dataset named ``holder``; it replaces the present one.

        Raises:
            InvalidField: the format is unknown.
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
    """Compare a sha256 with the announced one; ``what`` begins the error. Raises: IncompleteUpload."""
    if announced is not None and announced.lower() != sha256:
        raise IncompleteUpload(
            f"{what} sha256 {sha256}, not the announced one.", expected=announced, actual=sha256
        )
