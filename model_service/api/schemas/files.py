"""Files of a model version: files by path, signed URLs, uploads in parts."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from model_service.api.schemas.common import (
    Answer,
    Body,
    Confirmed,
    Id,
    JSONObject,
    ModelReference,
    ObjectIdText,
    Paged,
    Pagination,
    Query,
)
from model_service.api.schemas.models import FileMetadata
from model_service.sentences import pattern
from model_service.services.files.names import EXTENSIONS, OCTET_STREAM
from model_service.states import UploadState

MAX_SIGNED_S = 7 * 24 * 3600
# The same rules as in ``services.files.names``.
_SEGMENT = r"(?!\.{1,2}(/|$))[^/\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffd]+"
PathText = Annotated[
    str,
    Field(json_schema_extra={"pattern": rf"^{_SEGMENT}(/{_SEGMENT})*$", "minLength": 1, "maxLength": 1024}),
]
FormatText = Annotated[str, Field(json_schema_extra={"enum": sorted(EXTENSIONS)})]
Sha256 = Annotated[str, pattern(r"^[0-9A-Fa-f]{64}$", "64 hexadecimal digits")]


class ModelPath(BaseModel):
    model_id: ModelReference = Field(
        description="an id, or models:/NAME/VERSION, models:/NAME@ALIAS, models:/NAME/latest"
    )


class FilePath(ModelPath):
    path: PathText = Field(description="in its version: relative, up to 1,024 characters")


class ConfirmQuery(Query):
    confirm: Confirmed = Field(
        None,
        description="dependents of the version, as listed in details.confirm of the error; comma-separated",
    )


class ConsentQuery(ConfirmQuery):
    replace: bool = Field(False, description="replace another file at the path")


class FormatQuery(ConsentQuery):
    format: FormatText | None = Field(
        None, max_length=40, description="'pickle', 'onnx', …; by default it follows from the name"
    )


class PrimaryQuery(FormatQuery):
    filename: str | None = Field(
        None, max_length=1024, description="the file's name; takes precedence over X-Filename"
    )


class StoreQuery(FormatQuery):
    primary: bool = Field(False, description="make it the primary file, which /download returns")


class StoredFile(Answer):
    path: str
    file_id: Id
    size_bytes: int
    checksum: str
    content_type: str = OCTET_STREAM
    scan: JSONObject | None = Field(
        None,
        description="whether loading it could run code: `verdict`, `reason`; null until it was scanned",
    )


class FileList(BaseModel):
    model_id: Id
    files: list[StoredFile]
    size_bytes: int


class FileStored(BaseModel):
    success: Literal[True] = True
    message: str = "File stored"
    model_id: Id
    revision: int
    file: StoredFile
    unchanged: bool = Field(False, description="whether the same bytes were already stored")


class FileDeleted(BaseModel):
    success: Literal[True] = True
    message: str = "File deleted"
    deleted_id: Id
    path: str
    revision: int


class DeletedFilesQuery(Paged):
    pass


class DeletedFilePath(ModelPath):
    file_id: ObjectIdText = Field(description="the id in the list of deleted files")


class DeletedFile(BaseModel):
    """``replaced_by`` is the checksum of the file that replaced this one; null if it was deleted."""

    id: Id
    path: str
    size_bytes: int
    checksum: str
    replaced_by: str | None
    was_primary: bool
    removed_at: datetime
    removed_by: str
    purged_after: datetime = Field(description="the time after which it is permanently deleted")


class DeletedFilePage(BaseModel):
    files: list[DeletedFile]
    pagination: Pagination


class Uploaded(BaseModel):
    success: Literal[True] = True
    message: str = "Model file stored"
    model_id: Id
    file_metadata: FileMetadata
    unchanged: bool = Field(False, description="whether the same bytes were already stored")


class ModelInfo(BaseModel):
    model_id: Id
    name: str
    version: str
    algorithm: str
    file_metadata: FileMetadata
    download_count: int
    download_url: str


class PresignRequest(Body):
    expires_in_s: int = Field(3600, ge=1, le=MAX_SIGNED_S)


class SignedURL(BaseModel):
    url: str
    method: str = "GET"
    expires_at: datetime


class NewUpload(Body):
    """``path`` is the path of the file; ``filename`` instead makes it the primary file, as /upload does."""

    path: PathText | None = Field(None, max_length=1024)
    filename: str | None = Field(None, max_length=1024)
    size_bytes: int = Field(ge=1)
    sha256: Sha256 | None = None
    part_size_bytes: int | None = Field(
        None,
        ge=1,
        description="a multiple of 2 MiB",
        json_schema_extra={"multipleOf": 2**21, "maximum": 2**30},
    )
    content_type: str | None = Field(None, max_length=130)
    format: FormatText | None = Field(None, max_length=40)
    primary: bool = False
    replace: bool = Field(False, description="replace another file at the path")
    confirm: Confirmed = Field(None, description="dependents of the version")
    with_urls: bool = Field(False, description="return a signed URL for each part")


class Completion(Body):
    sha256: Sha256 | None = Field(None, description="of the whole file, if it was not announced before")
    replace: bool = False
    confirm: Confirmed = None


class UploadPath(BaseModel):
    upload_id: ObjectIdText


class PartPath(UploadPath):
    n: int = Field(ge=0, le=9_999, description="from 0")


class UploadQuery(Query):
    with_urls: bool = Field(False, description="a signed URL for each missing part")


class Part(BaseModel):
    n: int
    size_bytes: int
    checksum: str


class MissingPart(BaseModel):
    n: int
    size_bytes: int
    url: str | None = None


class Upload(BaseModel):
    """``received`` and ``missing`` are sorted by part number."""

    upload_id: Id
    model_id: Id
    path: str
    state: UploadState
    size_bytes: int
    part_size_bytes: int
    parts: int
    expires_at: datetime
    received: list[Part]
    missing: list[MissingPart]
    file: StoredFile | None = Field(None, description="the published file, after the upload is completed")
