"""The datasets collection: one document per dataset version, with files like a model's."""

from collections.abc import Callable

from bson import ObjectId

from model_service.storage.common.audit import Audit
from model_service.storage.common.collections import exists
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.common.file_entries import FilesEdit, change_details, change_files, find_for_file
from model_service.storage.common.names import names_near
from model_service.storage.common.pages import NEWEST_FIRST, within
from model_service.storage.datasets.documents import Dataset
from model_service.storage.models.documents import Model
from model_service.storage.models.models import Change, RetiredVersion
from model_service.storage.models.version_numbers import VersionNumbers
from model_service.storage.training.documents import TrainingJob
from model_service.storage.versioned.records import Records


class Datasets(Records[Dataset, StoredId]):
    def __init__(self, database: Database, audit: Audit, numbers: VersionNumbers) -> None:
        super().__init__(database.datasets, "dataset", audit)
        self._training_jobs = database.training_jobs
        self._models = database.models
        self._deleted_models = database.deleted_models
        self._numbers = numbers

    @staticmethod
    def new_id() -> ObjectId:
        return ObjectId()

    def find(self, query: Fields) -> Dataset | None:
        """Return the matching document; if several match, the highest version."""
        return self._records.find_one(query, sort=[("version_order", -1)])

    def newest_version_order(self, name: str) -> int | None:
        """Return the highest version that the name has or ever had."""
        return self._numbers.newest(self._kind, self._records, name)

    def insert(self, document: Dataset, session: Session, *, details: Fields | None = None) -> None:
        """As ``Records``. Raises also: RetiredVersion: a removed version of the name had this number."""
        if self._numbers.given(self._kind, [document], session):
            raise RetiredVersion
        super().insert(document, session, details=details)

    def remove(self, record_id: StoredId, session: Session) -> Dataset | None:
        gone = super().remove(record_id, session)
        if gone is not None:
            self._numbers.note(self._kind, gone, session)
        return gone

    def find_for_file(self, query: Fields, path: str | None) -> Dataset | None:
        """Like ``find``, with the files that a change at the path may affect; see ``file_entries``."""
        stages: list[Fields] = [{"$match": query}, {"$sort": {"version_order": -1}}, {"$limit": 1}]
        return find_for_file(self._records, stages, path)

    def change_file(
        self,
        record_id: StoredId,
        path: str,
        edit: Callable[[Dataset], FilesEdit],
        session: Session,
        *,
        action: str,
    ) -> Change[Dataset] | None:
        """Change the file at a path; see ``change_files``."""
        changed = change_files(self._records, record_id, path, edit, session)
        if changed is None:
            return None
        before, after = changed
        if after is not before:
            self._record(action, after, session, change_details(before, after, path))
        return Change(before, after)

    def names_near(self, name: str) -> list[str]:
        return names_near(self._records, name)

    @staticmethod
    def aliases_of(name: str) -> list[str]:
        """Return an empty list: datasets have no aliases."""
        return []

    def is_used(self, dataset_id: StoredId, session: Session) -> bool:
        """Return whether a training job or a model references it; models in the trash count."""
        used = {"dataset_ids": dataset_id}
        return (
            exists(self._training_jobs, {"datasets.dataset_id": dataset_id}, session)
            or exists(self._models, used, session)
            or exists(self._deleted_models, used, session)
        )

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
