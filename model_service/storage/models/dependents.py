"""Dependents of a model or dataset version, read before its files are replaced or removed."""

from model_service.states import ExportStatus
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import StoredId
from model_service.storage.deployments.documents import Deployment
from model_service.storage.exports.documents import ExportJob
from model_service.storage.models.documents import Model
from model_service.storage.training.documents import TrainingJob

_USELESS = [ExportStatus.FAILED, ExportStatus.CANCELLED]
# Maximum number of a version's exports whose deployments are searched.
_EXPORTS = 1000
_NAMED = {"name": True}


class Dependents:
    def __init__(self, database: Database) -> None:
        self._exports = database.export_jobs
        self._deployments = database.deployments
        self._training_jobs = database.training_jobs
        self._models = database.models

    def exports_of(self, model_id: StoredId, session: Session | None) -> list[ExportJob]:
        """Return the exports of a model version that are completed or not finished, newest first."""
        query = {"model_id": model_id, "status": {"$nin": _USELESS}}
        fields = {"export_format": True}
        return list(
            self._exports.find(query, fields, sort=[("version", -1)], limit=_EXPORTS, session=session)
        )

    def deployments_of(self, job_ids: list[str], session: Session | None, limit: int) -> list[Deployment]:
        """Return the deployments that serve or shadow one of these exports."""
        wanted = {"$in": job_ids}
        serving = [{"routing.members.export_job_id": wanted}, {"routing.shadow.export_job_id": wanted}]
        if not job_ids:
            return []
        return list(self._deployments.find({"$or": serving}, _NAMED, limit=limit, session=session))

    def users_of(
        self, dataset_id: StoredId, session: Session | None, limit: int
    ) -> list[tuple[str, TrainingJob | Model]]:
        """Return ``training_jobs`` and ``models`` that reference a dataset version."""
        trained = {"datasets.dataset_id": dataset_id}
        jobs = self._training_jobs.find(trained, _NAMED, limit=limit, session=session)
        users: list[tuple[str, TrainingJob | Model]] = [("training_jobs", job) for job in jobs]
        models = self._models.find({"dataset_ids": dataset_id}, _NAMED, limit=limit, session=session)
        return [*users, *(("models", model) for model in models)]
