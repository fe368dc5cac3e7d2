"""What a model came from: the training job and the datasets that it names exist, and stay while it does."""

from collections.abc import Iterable
from typing import Any

from model_service.actor import actor, may_read
from model_service.errors import Conflict, NotFound
from model_service.services.common.ids import parse_uuid
from model_service.services.common.references import query_of
from model_service.services.common.suggestions import Suggestions
from model_service.storage.common.db import Document, Session
from model_service.storage.datasets.datasets import Datasets
from model_service.storage.training.jobs import TrainingJobs


class Origins:
    def __init__(self, training_jobs: TrainingJobs, datasets: Datasets, suggestions: Suggestions) -> None:
        self._training_jobs = training_jobs
        self._datasets = datasets
        self._suggestions = suggestions

    def training_job(self, job_id: str) -> Document:
        """Raises: MalformedId. NotFound: there is none, or the caller may not read it."""
        job = self._training_jobs.get(parse_uuid("training job", job_id))
        if job is None or not may_read(job["name"]):
            raise NotFound("training job", job_id)
        return job

    def newest_model_with_file(self, job_id: str) -> str:
        """The id of the newest version that came from the training job, has a file and may be read.

        Raises:
            MalformedId. NotFound: no such training job, or no such version of it.
        """
        job = self.training_job(job_id)
        model_id = self._training_jobs.newest_model_with_file(job["_id"], actor().readable_namespaces())
        if model_id is None:
            raise NotFound("model with a file from training job", job_id)
        return str(model_id)

    def dataset(self, reference: str) -> Document:
        """Raises: MalformedId, InvalidRequest. NotFound: there is none, or the caller may not read it."""
        dataset = self._datasets.find(query_of("dataset", reference))
        if dataset is None:
            raise self._suggestions.missing("dataset", reference)
        self.require_readable_dataset(dataset, reference)
        return dataset

    def described(self, used: Iterable[Document]) -> list[Document]:
        """``{dataset_id, role}`` with the dataset's name and version, of those that the caller may read."""
        used = list(used)
        found = {dataset["_id"]: dataset for dataset in self._datasets.get_all(u["dataset_id"] for u in used)}
        return [
            each | {"name": dataset["name"], "version": dataset["version"]}
            for each in used
            if (dataset := found.get(each["dataset_id"])) is not None and may_read(dataset["name"])
        ]

    def require_readable_dataset(self, dataset: Document, reference: str) -> None:
        """Raises: NotFound: it does not exist for the caller."""
        if not may_read(dataset["name"]):
            raise self._suggestions.missing("dataset", reference)

    def resolved(self, fields: Document) -> Document:
        """A model's fields with what they say about its origin as it is stored.

        Raises:
            MalformedId, InvalidRequest, NotFound: of the training job or a dataset.
        """
        found: Document = {}
        if fields.get("training_job_id"):
            found["training_job_id"] = self.training_job(fields["training_job_id"])["_id"]
        if "dataset_ids" in fields:
            ids = (self.dataset(reference)["_id"] for reference in fields["dataset_ids"])
            found["dataset_ids"] = list(dict.fromkeys(ids))
        return fields | found

    @staticmethod
    def named(model: Document) -> bool:
        """Whether the model names any, so that ``hold`` has something to do."""
        return bool(model.get("training_job_id") or model.get("dataset_ids"))

    def hold(self, model: Document, session: Session, before: Document | None = None) -> None:
        """Call it in the transaction that stores the model: its origins are not removed at the same time.

        Args:
            before: the model as it was stored before; what it named then is held by that.

        Raises:
            Conflict: one was removed since it was found.
        """
        before = before or {}
        job_id = model.get("training_job_id")
        is_new = job_id and job_id != before.get("training_job_id")
        if is_new and not self._training_jobs.hold([job_id], session):
            raise Conflict("The training job was deleted meanwhile.", training_job_id=job_id)
        self.hold_datasets(set(model.get("dataset_ids", ())) - set(before.get("dataset_ids", ())), session)

    def hold_datasets(self, dataset_ids: Iterable[Any], session: Session) -> None:
        """Raises: Conflict: one was removed since it was found."""
        if not self._datasets.hold(dataset_ids, session):
            raise Conflict("One of the datasets was deleted meanwhile.")
