"""The documents of model versions, of the trash, and of removed versions' numbers."""

from datetime import datetime
from typing import Annotated, NotRequired, cast

from typing_extensions import TypedDict

from model_service.states import ModelStatus
from model_service.storage.common.documents import Fields, FileHolder, JSONObject, StoredId, one_of

# Fields for the search, in addition to the document's own: responses and the trash do not contain them.
DERIVED = ("terms", "metric_order")


class ShownEvaluation(TypedDict):
    """The last completed evaluation of a version's own files on a dataset version."""

    evaluation_id: str
    dataset_id: StoredId
    dataset_name: str
    dataset_version: str
    dataset_checksum: str
    source_checksum: str
    metrics: dict[str, float]
    samples: int | None
    completed_at: datetime


class UnlistedModel(FileHolder):
    algorithm: str
    framework: str | None
    status: Annotated[str, one_of(ModelStatus)]
    hyperparameters: JSONObject
    metrics: JSONObject
    dataset_info: JSONObject
    signature: JSONObject | None
    parent_model_id: StoredId | None
    training_job_id: str | None
    download_count: int
    aliases: NotRequired[list[str]]
    dataset_ids: NotRequired[list[StoredId]]
    evaluations: NotRequired[list[ShownEvaluation]]  # the last one first
    scans: NotRequired[int]  # changes without a new revision: scans of files and evaluations


class Derived(TypedDict):
    """Fields for the search; see ``storage.models.search``."""

    terms: list[str]
    metric_order: dict[str, bytes]


class Model(UnlistedModel):
    terms: list[str]
    metric_order: dict[str, bytes]


class DeletedModel(UnlistedModel):
    deleted_at: datetime
    deleted_by: str
    purging: NotRequired[bool]


class VersionNumber(TypedDict):
    _id: str
    kind: str
    name: str
    version_order: int
    subject_id: NotRequired[StoredId]
    at: NotRequired[datetime]


class HighestOrder(TypedDict):
    """The highest version number of a name; a result of an aggregation."""

    _id: str
    order: int


class NumberedVersion(TypedDict):
    version: str
    version_order: int


def new_model(fields: Fields, model_id: StoredId, at: datetime) -> Model:
    """Return a new model. Its version, namespace and derived fields are set when it is stored."""
    document: Fields = {
        "signature": None,
        "training_job_id": None,
        "files": [],
        "file_metadata": None,
        "size_bytes": 0,
        **fields,
        "revision": 1,
        "download_count": 0,
        "created_at": at,
        "updated_at": at,
        "_id": model_id,
    }
    return cast(Model, document)


def set_number(model: Model, number: NumberedVersion) -> None:
    model["version"], model["version_order"] = number["version"], number["version_order"]


def deleted(model: Model, by: str, at: datetime) -> DeletedModel:
    """Return the document of the trash for a model that this user deletes."""
    kept = {field: value for field, value in model.items() if field not in DERIVED}
    return cast(DeletedModel, {**kept, "deleted_at": at, "deleted_by": by})


def restored(gone: DeletedModel, aliases: list[str], at: datetime) -> Model:
    """Return the document of a restored model with these aliases, without the derived fields."""
    left_out = ("deleted_at", "deleted_by", "aliases")
    kept = {field: value for field, value in gone.items() if field not in left_out}
    named = {"aliases": aliases} if aliases else {}
    return cast(Model, {**kept, **named, "revision": gone["revision"] + 1, "updated_at": at})
