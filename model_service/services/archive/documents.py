"""Validation of imported documents: they must have the form that the API itself would have stored.

An archive comes from outside. An invalid document would cause errors again and again: a list that cannot be
returned, a path that leaves the folder where a zip is extracted, a namespace that does not match the name, a
file that is shorter than its stated size.
"""

from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from model_service.errors import InvalidRequest
from model_service.sentences import explain
from model_service.services.common.ids import parse_uuid
from model_service.services.common.references import NAME, check_alias, version_order
from model_service.services.files.names import check_path, media_type
from model_service.states import DatasetFormat, DatasetPurpose, ModelStatus, TrainingStatus
from model_service.storage.common.db import Document, StoredId

MAX_DEPTH = 64
# Exact types, since BSON's code is a subclass of str. Its long integers are a subclass of int.
_PLAIN = frozenset({NoneType, str, float, datetime, StoredId})

JSONObject = dict[str, Any]
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Text = str | None


def _path(path: str) -> str:
    if check_path(path) != path:
        raise ValueError("not in Unicode's composed form (NFC)")
    return path


def _media_type(sent: str) -> str:
    if media_type(sent) != sent:
        raise ValueError("not a media type")
    return sent


def _uuid(text: str) -> str:
    if parse_uuid("training job", text) != text:
        raise ValueError("not the id of a training job")
    return text


class _Stored(BaseModel):
    """Strict: values are not converted. Fields that are not declared are kept."""

    model_config = ConfigDict(strict=True, extra="allow", arbitrary_types_allowed=True)


class _Blob(_Stored):
    file_id: StoredId
    size_bytes: Count
    checksum: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _File(_Blob):
    path: Annotated[str, AfterValidator(_path)]
    content_type: Annotated[str, AfterValidator(_media_type)] | None = None


class _Primary(_Blob):
    filename: str
    format: str
    path: str | None = None


class _Described(_Stored):
    """Fields of all kinds of documents."""

    name: Name
    revision: Count
    description: Text
    task_type: Text
    tags: list[str]
    created_by: Text
    created_at: datetime
    updated_at: datetime


class _Holder(_Described):
    version: str
    version_order: Count
    files: list[_File]
    file_metadata: _Primary | None
    size_bytes: Count = 0
    id: StoredId = Field(alias="_id")

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "_Holder":
        if version_order(self.version) != self.version_order:
            raise ValueError("version_order does not match version")
        paths = {file.path for file in self.files}
        if len(paths) < len(self.files):
            raise ValueError("two files have the same path")
        held = {(file.checksum, file.size_bytes) for file in self.files}
        primary = self.file_metadata
        if primary is not None and (primary.checksum, primary.size_bytes) not in held:
            raise ValueError("file_metadata is not one of the files")
        return self


class _Model(_Holder):
    algorithm: str
    framework: Text
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    signature: JSONObject | None = None
    status: Annotated[ModelStatus, Field(strict=False)]
    aliases: list[Annotated[str, AfterValidator(check_alias)]] = []
    parent_model_id: StoredId | None
    training_job_id: Text = None
    dataset_ids: list[StoredId] = []
    download_count: Count


class _Dataset(_Holder):
    purpose: Annotated[DatasetPurpose | None, Field(strict=False)]
    format: Annotated[DatasetFormat | None, Field(strict=False)]
    num_samples: Count | None
    dataset_schema: JSONObject = Field(alias="schema")
    statistics: JSONObject
    source: Text
    license: Text


class _UsedDataset(_Stored):
    dataset_id: StoredId
    role: Annotated[DatasetPurpose, Field(strict=False)]


class _TrainingJob(_Described):
    id: Annotated[str, AfterValidator(_uuid)] = Field(alias="_id")
    algorithm: Text
    framework: Text
    status: Annotated[TrainingStatus, Field(strict=False)]
    hyperparameters: JSONObject
    metrics: JSONObject
    config: JSONObject
    environment: JSONObject
    datasets: list[_UsedDataset]
    code: JSONObject | None
    error: Text
    started_at: datetime | None
    finished_at: datetime | None


_SHAPES: Mapping[str, type[_Stored]] = {
    "models": _Model,
    "datasets": _Dataset,
    "training_jobs": _TrainingJob,
}


def check_document(collection: str, document: Document) -> None:
    """Validate a document. Raises: ValueError: names the invalid field and the problem."""
    _check_plain(document)
    try:
        _SHAPES[collection].model_validate(document)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{field}: {explain(first)}" if field else explain(first)) from None
    except InvalidRequest as exc:  # our own validators: a path, a version, an alias, an id
        raise ValueError(exc.message) from None


def _check_plain(value: Any, depth: int = 0) -> None:
    """Accept JSON with times and ids: no code, no regular expression, no reference to another collection."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    match value:
        case dict():
            for key, inner in value.items():
                if key.startswith("$") or "\0" in key:
                    raise ValueError("a key starts with '$' or contains a NUL character")
                _check_plain(inner, depth + 1)
        case list():
            for inner in value:
                _check_plain(inner, depth + 1)
        case _ if type(value) not in _PLAIN and not isinstance(value, int):
            raise ValueError(f"a value of the type {type(value).__name__}")
