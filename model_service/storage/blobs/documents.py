"""The documents of blobs, of uploads, of scans, and of replaced and removed files."""

from datetime import datetime
from typing import Annotated, NotRequired

from pydantic import SkipValidation
from typing_extensions import TypedDict

from model_service.states import UploadState
from model_service.storage.common.documents import StoredFile, StoredId, Verdict, one_of


class BlobMetadata(TypedDict):
    sha256: str
    references: int
    unreferenced_at: NotRequired[datetime]
    scan: NotRequired[Annotated[Verdict, SkipValidation]]


class Blob(TypedDict):
    """A file in GridFS."""

    _id: StoredId
    length: int
    chunkSize: int
    uploadDate: datetime
    filename: str
    contentType: NotRequired[str]
    metadata: BlobMetadata


class Chunk(TypedDict):
    """A chunk of a blob. An upload in parts records the number of the attempt that wrote it."""

    files_id: StoredId
    n: int
    data: NotRequired[bytes]  # not read, or handed on
    attempt: NotRequired[int]


class Upload(TypedDict):
    """A write in progress. An upload in parts has a time until which the sweep leaves its chunks alone."""

    _id: StoredId
    started_at: datetime
    expires_at: NotRequired[datetime]


class PlannedFile(TypedDict):
    """See ``services.files.files.NewFile``."""

    path: str
    content_type: str
    primary: bool
    replaces_primary: bool
    filename: str | None
    file_format: str | None
    may_be_empty: bool


class StoredConsent(TypedDict):
    """See ``services.models.replacement.Consent``."""

    replace: bool
    confirmed: list[str]


class StoredPart(TypedDict):
    sha256: str
    size_bytes: int


class Completing(TypedDict):
    """The lease of the request that completes the upload, by the database's clock."""

    token: str
    until: datetime


class PartUpload(TypedDict):
    """``_id`` is the id of the future blob. ``storage.blobs.part_uploads`` describes states and parts."""

    _id: StoredId
    model_id: StoredId
    model_name: str
    new: Annotated[PlannedFile, SkipValidation]
    consent: NotRequired[Annotated[StoredConsent, SkipValidation]]
    size_bytes: int
    sha256: str | None
    part_size_bytes: int
    part_count: int
    state: Annotated[str, one_of(UploadState)]
    attempts: int
    parts: Annotated[dict[str, StoredPart], SkipValidation]
    writing: Annotated[dict[str, int], SkipValidation]
    created_at: datetime
    expires_at: datetime
    completing: NotRequired[Annotated[Completing, SkipValidation]]
    file: NotRequired[Annotated[StoredFile, SkipValidation]]


def new_part_upload(
    upload_id: StoredId,
    model_id: StoredId,
    model_name: str,
    new: PlannedFile,
    consent: StoredConsent,
    *,
    size_bytes: int,
    sha256: str | None,
    part_size_bytes: int,
    at: datetime,
    expires_at: datetime,
) -> PartUpload:
    """Return an upload that accepts parts."""
    return {
        "_id": upload_id,
        "model_id": model_id,
        "model_name": model_name,
        "new": new,
        "consent": consent,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "part_size_bytes": part_size_bytes,
        "part_count": -(-size_bytes // part_size_bytes),
        "state": UploadState.OPEN,
        "attempts": 0,
        "parts": {},
        "writing": {},
        "created_at": at,
        "expires_at": expires_at,
    }


class RemovedFile(TypedDict):
    """``file`` is the version's former entry. Its reference to the blob moves here, so the count stays.

    ``replaced_by`` is the checksum of the file that replaced it; None: it was removed.
    """

    _id: StoredId
    kind: str
    holder_id: StoredId
    name: str
    version: str
    namespace: str
    file: StoredFile
    was_primary: bool
    format: str | None
    replaced_by: str | None
    removed_at: datetime
    removed_by: str


class Scan(TypedDict):
    """A model with files to scan."""

    _id: StoredId
    asked: int
    attempts: int
    leased_until: datetime
    traceparent: NotRequired[str]  # of the request that stored the last of these files
