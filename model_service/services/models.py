"""Model versions and their files: the rules of the registry."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from model_service.errors import (
    Conflict,
    FileTooLarge,
    IncompleteUpload,
    InvalidField,
    NoFile,
    NotFound,
    ServiceUnavailable,
)
from model_service.services.files import StoredFile
from model_service.services.ids import parse_model_id
from model_service.services.paging import Page
from model_service.storage.blobs import Blob, Blobs, SizeLimitExceeded, WriteExpired, blob_of
from model_service.storage.db import Database, Document, Session, now
from model_service.storage.models import DuplicateVersion, Models

MINORS = 10**6  # minor versions in a major one
VERSION = re.compile(r"v(0|[1-9][0-9]{0,11})(?:\.(0|[1-9][0-9]{0,5}))?")
FORMATS = {
    ".joblib": "joblib",
    ".json": "json",
    ".keras": "keras",
    ".onnx": "onnx",
    ".pickle": "pickle",
    ".pkl": "pickle",
    ".pt": "pytorch",
    ".pt2": "torch_export",
    ".pth": "pytorch",
    ".safetensors": "safetensors",
    ".skops": "skops",
    ".tflite": "tflite",
    ".torchscript": "torchscript",
    ".ts": "torchscript",
    ".zip": "zip",
}


class ModelService:
    def __init__(self, database: Database, models: Models, blobs: Blobs, *, max_file_size: int) -> None:
        self._database = database
        self._models = models
        self._blobs = blobs
        self._max_file_size = max_file_size

    def register(self, fields: Document) -> Document:
        """Store a new version. Without a ``version`` it gets the next minor one of its name, from v1.0 on.

        Raises:
            InvalidField: the version is not ``v1`` or ``v1.0``.
            NotFound: ``parent_model_id`` names no model.
            Conflict: the name has this version.
        """
        fields = dict(fields)
        wanted = fields.pop("version", None)
        if fields.get("parent_model_id"):
            fields["parent_model_id"] = self.get(fields["parent_model_id"])["_id"]
        at = now()
        while True:
            version = wanted or self._next_version(fields["name"])
            document = {
                **fields,
                "version": version,
                "version_order": version_order(version),
                "files": [],
                "file_metadata": None,
                "download_count": 0,
                "created_at": at,
                "updated_at": at,
            }
            try:
                self._models.insert(document)
            except DuplicateVersion:
                if wanted:
                    raise Conflict(
                        f"{fields['name']!r} has {wanted} already; without 'version' it gets the next.",
                        name=fields["name"],
                        version=wanted,
                    ) from None
                continue  # somebody took the number meanwhile
            return document

    def _next_version(self, name: str) -> str:
        newest = self._models.newest_version(name)
        if newest is None:
            return "v1.0"
        major, minor = divmod(newest["version_order"] + 1, MINORS)
        return f"v{major}.{minor}"

    def get(self, model_id: str) -> Document:
        """Raises: MalformedId, NotFound."""
        document = self._models.get(parse_model_id(model_id))
        if document is None:
            raise NotFound("model", model_id)
        return document

    def search(self, filters: Document, page: int, limit: int) -> Page:
        """The versions that match every filter, newest first. ``tags`` matches any of them."""
        query: dict[str, Any] = {}
        for name, value in filters.items():
            if name == "tags":
                query["tags"] = {"$in": value}
            elif name == "min_accuracy":
                accuracy = ("metrics.accuracy", "metrics.test_accuracy")
                query["$or"] = [{field: {"$gte": value}} for field in accuracy]
            else:
                query[name] = value
        items, total = self._models.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def update(self, model_id: str, changes: Document) -> Document:
        """Raises: MalformedId, NotFound."""
        document = self._models.update(parse_model_id(model_id), changes)
        if document is None:
            raise NotFound("model", model_id)
        return document

    def delete(self, model_id: str) -> None:
        """Remove the version and its hold on its files. Exports made from it stay.

        Raises:
            MalformedId, NotFound.
        """
        wanted = parse_model_id(model_id)

        def work(session: Session) -> bool:
            gone = self._models.delete(wanted, session)
            for file in gone["files"] if gone else []:
                self._blobs.release(file["file_id"], session)
            return gone is not None

        if not self._database.transaction(work):
            raise NotFound("model", model_id)

    def store_file(
        self, model_id: str, pieces: Iterable[bytes], *, filename: str | None, sha256: str | None
    ) -> Document:
        """Stream a file in and make it the version's; a file it had before is let go. Returns the model.

        Args:
            pieces: the bytes, in any sizes.
            filename: what a download is called; made safe here.
            sha256: 64 hexadecimal digits that the bytes must have, where the sender knows them.

        Raises:
            MalformedId, NotFound.
            FileTooLarge: more than MAX_FILE_SIZE. Nothing is kept.
            IncompleteUpload: empty, or not the bytes that ``sha256`` announced. Nothing is kept.
        """
        model = self.get(model_id)
        try:
            written = self._blobs.write(pieces, limit_bytes=self._max_file_size)
        except SizeLimitExceeded:
            raise FileTooLarge(self._max_file_size) from None
        if written.size_bytes == 0 or (sha256 is not None and sha256.lower() != written.sha256):
            self._blobs.discard(written)
            if written.size_bytes == 0:
                raise IncompleteUpload(
                    "The upload is empty: send the file as the body or in the field 'file'."
                )
            raise IncompleteUpload(
                f"The bytes that arrived have sha256 {written.sha256}, not the announced one.",
                expected=sha256,
                actual=written.sha256,
            )
        name = safe_filename(filename) or f"{safe_filename(model['name'])}.bin"
        file_format = FORMATS.get(PurePosixPath(name).suffix.lower(), "binary")

        def refer(stored: Blob, session: Session) -> None:
            before = self._models.set_primary_file(
                model["_id"], stored, filename=name, file_format=file_format, session=session
            )
            if before is None:  # deleted meanwhile
                raise NotFound("model", model_id)
            for file in before["files"]:
                self._blobs.release(file["file_id"], session)

        try:
            self._blobs.publish(written, refer)
        except WriteExpired:
            raise ServiceUnavailable("The upload took longer than ORPHAN_SAFETY_S allows.") from None
        return self.get(model_id)

    def get_with_file(self, model_id: str) -> Document:
        """Raises: MalformedId, NotFound: no such model, or it has no file yet."""
        model = self.get(model_id)
        if model["file_metadata"] is None:
            raise NoFile(model_id)
        return model

    def open_file(self, model: Document) -> StoredFile:
        """The primary file of a model that has one."""
        file = model["file_metadata"]
        return StoredFile.of(blob_of(file), file["filename"], self._blobs)

    def count_download(self, model: Document) -> None:
        self._models.count_download(model["_id"])


def version_order(version: str) -> int:
    """A number that sorts as versions do: v2.10 after v2.9.

    Raises:
        InvalidField: not a version.
    """
    match = VERSION.fullmatch(version)
    if match is None:
        raise InvalidField(
            f"{version[:40]!r} is no version.",
            [{"field": "version", "message": "v and a number, or v and two: v1, v1.0"}],
        )
    major, minor = match.groups()
    return int(major) * MINORS + int(minor or 0)


def safe_filename(name: str | None) -> str:
    """The last component of a client's path, with nothing but letters, digits, ``_``, ``-`` and ``.``."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return re.sub(r"[^A-Za-z0-9_.-]", "", last).lstrip(".")[-100:]
