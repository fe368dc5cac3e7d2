"""Datasets for training, validating, testing and calibrating models: versions with files."""

from collections.abc import Collection

from typing_extensions import TypedDict

from model_service.actor import Permission, actor, creator, namespace_of, require
from model_service.errors import Conflict, NotFound
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.paging import Page, readable
from model_service.services.common.references import following, version_order
from model_service.services.models.origins import Origins
from model_service.services.models.rules import check_revision
from model_service.services.models.versions import number_taken
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields, JSONObject, StoredId
from model_service.storage.datasets.documents import Dataset, new_dataset
from model_service.storage.models.documents import Model
from model_service.storage.stores import Stores
from model_service.storage.training.documents import TrainingJob
from model_service.storage.versioned.records import Change, DuplicateVersion


class SentDataset(TypedDict, total=False):
    """The fields of a dataset version in a request."""

    name: str
    version: str | None
    description: str | None
    task_type: str | None
    tags: list[str]
    purpose: str | None
    format: str | None
    num_samples: int | None
    schema: JSONObject
    statistics: JSONObject
    source: str | None
    license: str | None
    created_by: str | None


class UsingJob(TrainingJob):
    """A training job with the roles of the dataset in it."""

    roles: list[str]


class DatasetUsage(TypedDict):
    dataset: Dataset
    training_jobs: list[UsingJob]
    models: list[Model]
    truncated: bool


class DatasetService:
    def __init__(self, stores: Stores, origins: Origins, idempotency: Idempotency) -> None:
        self._database = stores.database
        self._datasets = stores.datasets
        self._blobs = stores.blobs
        self._removed_files = stores.removed_files
        self._origins = origins
        self._idempotency = idempotency

    def register(self, fields: SentDataset, once: Once | None = None) -> Dataset:
        """Store a new version without files; if no ``version`` is given, it gets the next minor one.

        Raises:
            NotPermitted.
            InvalidField: the version is not ``v1`` or ``v1.0``.
            Conflict: the name has or had this version.
        """
        require(Permission.WRITE, fields["name"])
        return self._idempotency.run(once, lambda note: self._register(fields, note), self.get)

    def _register(self, fields: SentDataset, note: Note) -> Dataset:
        name, wanted = fields["name"], fields["version"]
        while True:
            version = wanted or following(self._datasets.newest_version_order(name))
            numbered = {
                **fields,
                "_id": self._datasets.new_id(),
                "created_by": creator(fields.get("created_by")),
                "version": version,
                "version_order": version_order(version),
            }
            document = new_dataset(numbered, namespace_of(name), now())

            def work(session: Session, document: Dataset = document) -> None:
                note(document["_id"], session)
                self._datasets.insert(document, session)

            try:
                self._database.transaction(work)
            except DuplicateVersion as duplicate:
                if wanted:
                    raise number_taken(name, wanted, duplicate) from None
                continue  # another request took the number meanwhile
            return document

    def get(self, reference: str) -> Dataset:
        """Return a dataset version. Raises: MalformedId, InvalidRequest, NotFound."""
        return self._origins.dataset(reference)

    def page(self, filters: Fields, page: int, limit: int) -> Page[Dataset]:
        """Return the matching versions that the caller may read, newest first; ``tags`` matches any."""
        query = {**filters, **readable()}
        if "tags" in query:
            query["tags"] = {"$in": query["tags"]}
        items, total = self._datasets.page(query, (page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def update(self, reference: str, changes: Fields, *, revisions: Collection[int] | None = None) -> Dataset:
        """Change the fields that are sent. Returns the changed dataset.

        Args:
            revisions: change it only if it has one of these revisions, checked atomically.

        Raises:
            MalformedId, InvalidRequest, NotFound, NotPermitted.
            PreconditionFailed: it has another revision; ``details.etag`` is the present one's.
        """
        dataset = self.get(reference)
        require(Permission.WRITE, dataset["name"])

        def edit(before: Dataset) -> Fields:
            check_revision(before, revisions)
            return changes

        def work(session: Session) -> Change[Dataset] | None:
            return self._datasets.change(dataset["_id"], edit, session)

        changed = self._database.transaction(work)
        if changed is None:
            raise NotFound("dataset", reference)
        return changed.after

    def delete(self, reference: str) -> str:
        """Remove an unused version and its files. Returns its id.

        Raises:
            MalformedId, InvalidRequest, NotFound, NotPermitted.
            Conflict: a training job or a model, which may be in the trash, references it.
        """
        dataset = self.get(reference)
        require(Permission.WRITE, dataset["name"])

        def work(session: Session) -> Dataset | None:
            gone = self._datasets.remove(dataset["_id"], session)
            if self._datasets.is_used(dataset["_id"], session):
                raise Conflict(
                    "Training jobs, evaluations or models use this dataset: delete them first.",
                    dataset_id=str(dataset["_id"]),
                )
            if gone is not None:
                self._blobs.release_all((file["file_id"] for file in gone["files"]), session)
            return gone

        if self._database.transaction(work) is None:
            raise NotFound("dataset", reference)
        self._removed_files.purge_all("dataset", dataset["_id"])
        return str(dataset["_id"])

    def usage(self, reference: str, limit: int) -> DatasetUsage:
        """Return the newest training jobs that used it, with its roles there, and the models made from it.

        At most ``limit`` of each, of those that the caller may read. A model is made from a dataset if it
        references the dataset, or if it came from one of these training jobs.

        Raises:
            MalformedId, InvalidRequest, NotFound.
        """
        dataset = self.get(reference)
        dataset_id, namespaces = dataset["_id"], actor().readable_namespaces()
        jobs = self._datasets.training_jobs_with(dataset_id, namespaces, limit + 1)
        shown = jobs[:limit]
        models = self._datasets.models_from(dataset_id, [job["_id"] for job in shown], namespaces, limit + 1)
        return {
            "dataset": dataset,
            "training_jobs": [{**job, "roles": _roles(job, dataset_id)} for job in shown],
            "models": models[:limit],
            "truncated": len(jobs) > limit or len(models) > limit,
        }


def _roles(job: TrainingJob, dataset_id: StoredId) -> list[str]:
    return [used["role"] for used in job["datasets"] if used["dataset_id"] == dataset_id]
