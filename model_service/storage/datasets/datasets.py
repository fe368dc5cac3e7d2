"""The datasets collection: one document per dataset version, with files like a model's."""

from collections.abc import Callable, Collection

from model_service.storage.common.audit import Audit
from model_service.storage.common.collections import exists
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import Fields, StoredId, changed
from model_service.storage.common.file_entries import FilesEdit
from model_service.storage.common.pages import NEWEST_FIRST, within
from model_service.storage.datasets.documents import Dataset, inspected_fields, waiting_inspection
from model_service.storage.models.documents import Model
from model_service.storage.training.documents import TrainingJob
from model_service.storage.versioned.records import Change
from model_service.storage.versioned.version_numbers import VersionNumbers
from model_service.storage.versioned.versions import Versions


class Datasets(Versions[Dataset]):
    kind = "dataset"

    def __init__(self, database: Database, audit: Audit, numbers: VersionNumbers) -> None:
        super().__init__(database.datasets, audit, numbers)
        self._training_jobs = database.training_jobs
        self._models = database.models
        self._deleted_models = database.deleted_models
        self._evaluations = database.evaluations

    @staticmethod
    def aliases_of(name: str) -> list[str]:
        """Return an empty list: datasets have no aliases."""
        return []

    def change(
        self,
        record_id: StoredId,
        edit: Callable[[Dataset], Fields],
        session: Session,
        *,
        action: str = "updated",
        details: Fields | None = None,
    ) -> Change[Dataset] | None:
        change = super().change(record_id, edit, session, action=action, details=details)
        return self._inspect_if_changed(change, session)

    def change_file(
        self,
        record_id: StoredId,
        path: str,
        edit: Callable[[Dataset], FilesEdit],
        session: Session,
        *,
        action: str,
    ) -> Change[Dataset] | None:
        change = super().change_file(record_id, path, edit, session, action=action)
        return self._inspect_if_changed(change, session)

    def _inspect_if_changed(self, change: Change[Dataset] | None, session: Session) -> Change[Dataset] | None:
        """Let a worker inspect the data file if it, or what describes it, has changed."""
        if change is None or inspected_fields(change.before) == inspected_fields(change.after):
            return change
        waiting = waiting_inspection(change.after)
        self._records.update_one({"_id": change.after["_id"]}, {"$set": waiting}, session=session)
        return Change(change.before, changed(change.after, waiting))

    def is_used(self, dataset_id: StoredId, session: Session) -> bool:
        """Return whether a training job, an evaluation or a model references it; also models in the trash."""
        used = {"dataset_ids": dataset_id}
        return (
            exists(self._training_jobs, {"datasets.dataset_id": dataset_id}, session)
            or exists(self._models, used, session)
            or exists(self._deleted_models, used, session)
            or exists(self._evaluations, {"dataset_id": dataset_id}, session)
        )

    def described(
        self, dataset_ids: Collection[StoredId], session: Session | None = None
    ) -> dict[StoredId, Fields]:
        """Return the ``inspected_fields`` of each of these datasets that has a data file."""
        if not dataset_ids:
            return {}
        query: Fields = {"_id": {"$in": list(dataset_ids)}}
        fields = dict.fromkeys(("file_metadata", "format", "schema", "task_type"), True)
        found = self._records.find(query, fields, session=session)
        described = {dataset["_id"]: inspected_fields(dataset) for dataset in found}
        return {dataset_id: known for dataset_id, known in described.items() if known is not None}

    def training_jobs_with(
        self, dataset_id: StoredId, namespaces: list[str] | None, limit: int
    ) -> list[TrainingJob]:
        """Return the newest training jobs that used it in any role, in these namespaces or in all."""
        query = within(namespaces) | {"datasets.dataset_id": dataset_id}
        fields = dict.fromkeys(("name", "status", "datasets", "created_at"), True)
        return list(self._training_jobs.find(query, fields, sort=NEWEST_FIRST, limit=limit))

    def models_from(
        self, dataset_id: StoredId, job_ids: list[str], namespaces: list[str] | None, limit: int
    ) -> list[Model]:
        """Return the newest model versions that reference it, or that came from these training jobs."""
        origins: list[Fields] = [{"dataset_ids": dataset_id}]
        if job_ids:
            origins.append({"training_job_id": {"$in": job_ids}})
        query = within(namespaces) | {"$or": origins}
        fields = dict.fromkeys(("name", "version", "status", "training_job_id", "created_at"), True)
        return list(self._models.find(query, fields, sort=NEWEST_FIRST, limit=limit))
