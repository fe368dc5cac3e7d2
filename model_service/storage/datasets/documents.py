"""The documents of datasets."""

import uuid
from datetime import UTC, datetime
from typing import Annotated, NotRequired, cast

from pydantic import SkipValidation
from typing_extensions import TypedDict

from model_service.states import DatasetFormat, InspectionStatus
from model_service.storage.common.documents import JSON, Fields, FileHolder, JobDataset, JSONObject, one_of

NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class InspectedTensor(TypedDict):
    """An array of the data, or an input of a model. The first axis of the shape counts the rows."""

    name: str
    dtype: str
    shape: list[int | str]


class Found(TypedDict, total=False):
    """What an inspection found, in the form of ``exporters.datasets.inspect``."""

    format: str
    task: str | None
    num_samples: int | None
    inputs: list[InspectedTensor]
    label: InspectedTensor | None
    classes: list[str] | None
    class_counts: dict[str, int] | None
    first_rows: list[Annotated[JSON, SkipValidation]]
    warnings: list[str]


class Summary(Found):
    """``checksum`` is the inspected file's. ``error`` is the reason of a failed inspection."""

    status: Annotated[str, one_of(InspectionStatus)]
    checksum: str
    error: str | None
    inspected_at: NotRequired[datetime]


class Inspection(TypedDict):
    """A waiting inspection. ``token`` is new with each change of the file and in each attempt; a result is
    stored only while it is the same.
    """

    token: str
    attempts: int
    leased_until: datetime


class Dataset(FileHolder):
    purpose: str | None
    format: str | None
    num_samples: int | None
    schema: JSONObject
    statistics: JSONObject
    source: str | None
    license: str | None
    summary: NotRequired[Annotated[Summary, SkipValidation] | None]
    inspection: NotRequired[Annotated[Inspection, SkipValidation] | None]


def new_dataset(fields: Fields, namespace: str, at: datetime) -> Dataset:
    """Return a new version without files. ``fields``: those of the request, the ``_id`` and the version."""
    document = {
        **fields,
        "files": [],
        "file_metadata": None,
        "size_bytes": 0,
        "created_at": at,
        "updated_at": at,
        "namespace": namespace,
        "revision": 1,
    }
    return cast(Dataset, document)


def data_file(dataset: Dataset, role: str) -> JobDataset:
    """Return the data file of a dataset that has one, as the input of a job."""
    file = dataset["file_metadata"]
    assert file is not None
    return {
        "file_id": file["file_id"],
        "size_bytes": file["size_bytes"],
        "checksum": file["checksum"],
        "filename": file["filename"],
        "role": role,
        "dataset_id": dataset["_id"],
        "name": dataset["name"],
        "version": dataset["version"],
        "format": str(dataset["format"]),
        "schema": dataset["schema"],
        "task_type": dataset["task_type"],
    }


def inspected_fields(dataset: Dataset) -> Fields | None:
    """Return what an inspection depends on; None if the dataset has no data file in a known format."""
    file, known = dataset["file_metadata"], dataset["format"]
    if file is None or known is None or known == DatasetFormat.OTHER:
        return None
    of_request = {"format": known, "schema": dataset["schema"], "task_type": dataset["task_type"]}
    return {"checksum": file["checksum"], **of_request}


def waiting_inspection(dataset: Dataset) -> Fields:
    """Return the fields of a dataset whose file a worker has to inspect; they are None if there is none."""
    fields = inspected_fields(dataset)
    if fields is None:
        return {"summary": None, "inspection": None}
    return {
        "summary": {"status": InspectionStatus.PENDING, "checksum": fields["checksum"], "error": None},
        "inspection": {"token": str(uuid.uuid4()), "attempts": 0, "leased_until": NEVER},
    }
