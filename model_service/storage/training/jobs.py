"""The training_jobs collection: records of the runs that models came from."""

from model_service.storage.common.audit import Audit
from model_service.storage.common.collections import exists
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import StoredId
from model_service.storage.common.pages import NEWEST_FIRST, within
from model_service.storage.training.documents import TrainingJob
from model_service.storage.versioned.records import Records


class TrainingJobs(Records[TrainingJob, str]):
    kind = "training_job"

    def __init__(self, database: Database, audit: Audit) -> None:
        super().__init__(database.training_jobs, audit)
        self._models = database.models
        self._deleted_models = database.deleted_models

    def has_models(self, job_id: str, session: Session) -> bool:
        """Return whether a model version came from this training job; the trash counts too."""
        came_from_it = {"training_job_id": job_id}
        return exists(self._models, came_from_it, session) or exists(
            self._deleted_models, came_from_it, session
        )

    def newest_model_with_file(self, job_id: str, namespaces: list[str] | None) -> StoredId | None:
        """Return the id of the job's newest version with a file, in these namespaces or in all."""
        found = self._models.find_one(
            {"training_job_id": job_id, "file_metadata": {"$ne": None}} | within(namespaces),
            {"_id": True},
            sort=NEWEST_FIRST,
        )
        return found["_id"] if found is not None else None
