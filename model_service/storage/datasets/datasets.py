"""The datasets collection: one document per dataset version, with files like a model's."""

from typing import Any

from bson import ObjectId

from model_service.storage.common.db import Database, Document, Session
from model_service.storage.common.names import names_near
from model_service.storage.common.pages import NEWEST_FIRST, within
from model_service.storage.models.models import RetiredVersion
from model_service.storage.models.version_numbers import VersionNumbers
from model_service.storage.versioned.records import Records


class Datasets(Records):
    def __init__(self, database: Database) -> None:
        super().__init__(database, database.datasets, "dataset")
        self._training_jobs = database.training_jobs
        self._models = database.models
        self._deleted_models = database.deleted_models
        self._numbers = VersionNumbers(database, "dataset")

    @staticmethod
    def new_id() -> ObjectId:
        return ObjectId()

    def find(self, query: Document) -> Document | None:
        """Return the matching document; if several match, the highest version."""
        return self._records.find_one(query, sort=[("version_order", -1)])

    def newest_version_order(self, name: str) -> int | None:
        """Return the highest version that the name has or ever had."""
        return self._numbers.newest(self._records, name)

    def insert(self, document: Document, session: Session, *, details: Document | None = None) -> None:
        """As ``Records``. Raises also: RetiredVersion: a removed version of the name had this number."""
        if self._numbers.given([document], session):
            raise RetiredVersion
        super().insert(document, session, details=details)

    def remove(self, record_id: Any, session: Session) -> Document | None:
        gone = super().remove(record_id, session)
        if gone is not None:
            self._numbers.note(gone, session)
        return gone

    def names_near(self, name: str) -> list[str]:
        return names_near(self._records, name)

    @staticmethod
    def aliases_of(name: str) -> list[str]:
        """Return an empty list: datasets have no aliases."""
        return []

    def is_used(self, dataset_id: Any, session: Session) -> bool:
        """Return whether a training job or a model references it; models in the trash count."""
        users = (
            (self._training_jobs, "datasets.dataset_id"),
            (self._models, "dataset_ids"),
            (self._deleted_models, "dataset_ids"),
        )
        return any(
            collection.find_one({field: dataset_id}, {"_id": True}, session=session) is not None
            for collection, field in users
        )

    def training_jobs_with(self, dataset_id: Any, namespaces: list[str] | None, limit: int) -> list[Document]:
        """Return the newest training jobs that used it in any role, in these namespaces or in all."""
        query = within(namespaces) | {"datasets.dataset_id": dataset_id}
        fields = dict.fromkeys(("name", "status", "datasets", "created_at"), True)
        return list(self._training_jobs.find(query, fields, sort=NEWEST_FIRST, limit=limit))

    def models_from(
        self, dataset_id: Any, job_ids: list[str], namespaces: list[str] | None, limit: int
    ) -> list[Document]:
        """Return the newest model versions that reference it, or that came from these training jobs."""
        origins: list[Document] = [{"dataset_ids": dataset_id}]
        if job_ids:
            origins.append({"training_job_id": {"$in": job_ids}})
        query = within(namespaces) | {"$or": origins}
        fields = dict.fromkeys(("name", "version", "status", "training_job_id", "created_at"), True)
        return list(self._models.find(query, fields, sort=NEWEST_FIRST, limit=limit))
