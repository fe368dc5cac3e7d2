"""The documents of training jobs."""

from datetime import datetime
from typing import Annotated, cast

from typing_extensions import TypedDict

from model_service.states import TrainingStatus
from model_service.storage.common.documents import Described, Fields, JSONObject, StoredId, one_of


class UsedDataset(TypedDict):
    dataset_id: StoredId
    role: str


class TrainingJob(Described):
    _id: str
    algorithm: str | None
    framework: str | None
    status: Annotated[str, one_of(TrainingStatus)]
    hyperparameters: JSONObject
    metrics: JSONObject
    config: JSONObject
    environment: JSONObject
    datasets: list[UsedDataset]
    code: JSONObject | None
    error: str | None
    started_at: datetime | None
    finished_at: datetime | None


def new_training_job(fields: Fields, namespace: str, at: datetime) -> TrainingJob:
    """Return a new training job. ``fields`` are those of the request, checked, and the ``_id``."""
    document = {**fields, "created_at": at, "updated_at": at, "namespace": namespace, "revision": 1}
    return cast(TrainingJob, document)
