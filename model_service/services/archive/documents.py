"""Validation of imported documents: they must have the form that the API itself would have stored.

An archive comes from outside. An invalid document would cause errors again and again: a list that cannot be
returned, a path that leaves the folder where a zip is extracted, a namespace that does not match the name, a
file that is shorter than its stated size.
"""

from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import Annotated, NotRequired, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from model_service.errors import InvalidRequest
from model_service.sentences import explain
from model_service.services.common.ids import parse_uuid
from model_service.services.common.references import NAME, check_alias, version_order
from model_service.services.files.names import check_path, media_type
from model_service.states import DatasetFormat, DatasetPurpose, ModelStatus, TrainingStatus
from model_service.storage.common.documents import NOT_STORED, AnyDocument, JSONObject, StoredId

MAX_DEPTH = 64
# Exact types, since BSON's code is a subclass of str. Its long integers are a subclass of int.
_PLAIN = frozenset({NoneType, str, float, datetime, type(NOT_STORED)})

Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Text = str | None
H = TypeVar("H", bound="_Holder")


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


# Values are not converted. Fields that are not declared are kept.
_strict = with_config(ConfigDict(strict=True))


@_strict
class _Blob(TypedDict):
    file_id: StoredId
    size_bytes: Count
    checksum: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


@_strict
class _File(_Blob):
    path: Annotated[str, AfterValidator(_path)]
    content_type: NotRequired[Annotated[str, AfterValidator(_media_type)] | None]


@_strict
class _Primary(_Blob):
    filename: str
    format: str
    path: NotRequired[str | None]


@_strict
class _Described(TypedDict):
    """Fields of all kinds of documents."""

    name: Name
    revision: Count
    description: Text
    task_type: Text
    tags: list[str]
    created_by: Text
    created_at: datetime
    updated_at: datetime


@_strict
class _Holder(_Described):
    version: str
    version_order: Count
    files: list[_File]
    file_metadata: _Primary | None
    size_bytes: NotRequired[Count]
    _id: StoredId


def _agrees_with_itself(holder: H) -> H:
    if version_order(holder["version"]) != holder["version_order"]:
        raise ValueError("version_order does not match version")
    paths = {file["path"] for file in holder["files"]}
    if len(paths) < len(holder["files"]):
        raise ValueError("two files have the same path")
    held = {(file["checksum"], file["size_bytes"]) for file in holder["files"]}
    primary = holder["file_metadata"]
    if primary is not None and (primary["checksum"], primary["size_bytes"]) not in held:
        raise ValueError("file_metadata is not one of the files")
    return holder


@_strict
class _Evaluated(TypedDict):
    evaluation_id: str
    dataset_id: StoredId
    dataset_name: str
    dataset_version: str
    dataset_checksum: str
    source_checksum: str
    metrics: dict[str, float]
    samples: int | None
    completed_at: datetime


@_strict
class _Model(_Holder):
    algorithm: str
    framework: Text
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    signature: NotRequired[JSONObject | None]
    status: Annotated[ModelStatus, Field(strict=False)]
    aliases: NotRequired[list[Annotated[str, AfterValidator(check_alias)]]]
    parent_model_id: StoredId | None
    training_job_id: NotRequired[Text]
    dataset_ids: NotRequired[list[StoredId]]
    evaluations: NotRequired[list[_Evaluated]]
    download_count: Count


@_strict
class _Dataset(_Holder):
    purpose: Annotated[DatasetPurpose | None, Field(strict=False)]
    format: Annotated[DatasetFormat | None, Field(strict=False)]
    num_samples: Count | None
    schema: JSONObject
    statistics: JSONObject
    source: Text
    license: Text


@_strict
class _UsedDataset(TypedDict):
    dataset_id: StoredId
    role: Annotated[DatasetPurpose, Field(strict=False)]


@_strict
class _TrainingJob(_Described):
    _id: Annotated[str, AfterValidator(_uuid)]
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


_SHAPES: Mapping[str, TypeAdapter[_Described]] = {
    "models": TypeAdapter(Annotated[_Model, AfterValidator(_agrees_with_itself)]),
    "datasets": TypeAdapter(Annotated[_Dataset, AfterValidator(_agrees_with_itself)]),
    "training_jobs": TypeAdapter(_TrainingJob),
}


def check_document(collection: str, document: AnyDocument) -> None:
    """Validate a document. Raises: ValueError: names the invalid field and the problem."""
    _check_plain(document)
    try:
        _SHAPES[collection].validate_python(document)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{field}: {explain(first)}" if field else explain(first)) from None
    except InvalidRequest as exc:  # our own validators: a path, a version, an alias, an id
        raise ValueError(exc.message) from None


def _check_plain(value: object, depth: int = 0) -> None:
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
