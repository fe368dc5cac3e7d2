"""Origins of a model: its training job and datasets, which must exist as long as the model does."""

from collections.abc import Iterable

from typing_extensions import TypedDict

from model_service.actor import actor, may_read
from model_service.errors import Conflict, NotFound
from model_service.services.common.ids import parse_uuid
from model_service.services.common.references import query_of
from model_service.services.common.suggestions import Suggestions
from model_service.storage.common.db import Session
from model_service.storage.common.documents import FileHolder, StoredId
from model_service.storage.datasets.documents import Dataset
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores
from model_service.storage.training.documents import TrainingJob


class SentOrigins(TypedDict, total=False):
    """The fields of a request that reference a model's origins."""

    training_job_id: str | None
    dataset_ids: list[str]


class DatasetRole(TypedDict):
    dataset_id: StoredId
    role: str | None


class DescribedDataset(DatasetRole):
    name: str
    version: str


class Origins:
    def __init__(self, stores: Stores, suggestions: Suggestions) -> None:
        self._training_jobs = stores.training_jobs
        self._datasets = stores.datasets
        self._suggestions = suggestions

    def training_job(self, job_id: str) -> TrainingJob:
        """Return a training job. Raises: MalformedId. NotFound: it is missing or not readable."""
        job = self._training_jobs.get(parse_uuid("training job", job_id))
        if job is None or not may_read(job["name"]):
            raise NotFound("training job", job_id)
        return job

    def newest_model_with_file(self, job_id: str) -> str:
        """Return the id of the newest readable version of the training job that has a file.

        Raises:
            MalformedId. NotFound: there is no such training job, or it has no such version.
        """
        job = self.training_job(job_id)
        model_id = self._training_jobs.newest_model_with_file(job["_id"], actor().readable_namespaces())
        if model_id is None:
            raise NotFound("model with a file of the training job", job_id)
        return str(model_id)

    def dataset(self, reference: str) -> Dataset:
        """Return a dataset. Raises: MalformedId, InvalidRequest. NotFound: missing or not readable."""
        dataset = self._datasets.find(query_of("dataset", reference))
        if dataset is None:
            raise self._suggestions.missing("dataset", reference)
        self.require_readable_dataset(dataset, reference)
        return dataset

    def described(self, used: Iterable[DatasetRole]) -> list[DescribedDataset]:
        """Add the dataset's name and version to each ``{dataset_id, role}`` that the caller may read."""
        used = list(used)
        found = {dataset["_id"]: dataset for dataset in self._datasets.get_all(u["dataset_id"] for u in used)}
        return [
            {**each, "name": dataset["name"], "version": dataset["version"]}
            for each in used
            if (dataset := found.get(each["dataset_id"])) is not None and may_read(dataset["name"])
        ]

    def require_readable_dataset(self, dataset: FileHolder, reference: str) -> None:
        """Check that the caller may read the dataset. Raises: NotFound."""
        if not may_read(dataset["name"]):
            raise self._suggestions.missing("dataset", reference)

    def resolved(self, fields: SentOrigins) -> dict[str, object]:
        """Return a model's fields with the references to its origins replaced by stored ids.

        Raises:
            MalformedId, InvalidRequest, NotFound: the training job or a dataset cannot be found.
        """
        found: dict[str, object] = {}
        if job_id := fields.get("training_job_id"):
            found["training_job_id"] = self.training_job(job_id)["_id"]
        if "dataset_ids" in fields:
            ids = (self.dataset(reference)["_id"] for reference in fields["dataset_ids"])
            found["dataset_ids"] = list(dict.fromkeys(ids))
        return {**fields, **found}

    @staticmethod
    def named(model: Model) -> bool:
        """Return whether the model has origins; without any, ``hold`` does nothing."""
        return bool(model.get("training_job_id") or model.get("dataset_ids"))

    def hold(self, model: Model, session: Session, before: Model | None = None) -> None:
        """Lock the model's origins against deletion. Call it in the transaction that stores the model.

        Args:
            before: the model as stored before; its origins are locked already.

        Raises:
            Conflict: one was deleted since it was read.
        """
        job_id = model.get("training_job_id")
        is_new = before is None or job_id != before.get("training_job_id")
        if job_id and is_new and not self._training_jobs.hold([job_id], session):
            raise Conflict("The training job was deleted meanwhile.", training_job_id=job_id)
        held = set(before.get("dataset_ids", ())) if before is not None else set()
        self.hold_datasets(set(model.get("dataset_ids", ())) - held, session)

    def hold_datasets(self, dataset_ids: Iterable[StoredId], session: Session) -> None:
        """Lock datasets against deletion. Raises: Conflict: one was deleted since it was read."""
        if not self._datasets.hold(dataset_ids, session):
            raise Conflict("One of the datasets was deleted meanwhile.")
