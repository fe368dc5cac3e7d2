"""Calls on training jobs: records of the training runs of models, reported by their owners."""

from collections.abc import Mapping
from typing import Any

from model_service.client.calls import Calls
from model_service.client.records import Page, named
from model_service.client.transport.http import segment
from model_service.client.types import TrainingJob

TRAINING = "/api/v1/training"


class TrainingCalls(Calls):
    def create_training_job(
        self, job_data: str | Mapping[str, Any] | None = None, **fields: Any
    ) -> TrainingJob:
        """Record a training run.

        ``job_data`` is its name, or a mapping with ``name`` and other fields: status, algorithm, framework,
        task_type, description, hyperparameters, metrics, config, environment, datasets (``[{"dataset_id",
        "role"}]``), code, tags, started_at, finished_at, error, created_by. Fields may also be passed as
        keywords. Then call ``register_model({..., "training_job_id": job.id})``.

        Raises:
            NotFound: a dataset does not exist.
            InvalidRequest: a wrong field; ``details["fields"]`` names each.
        """
        return TrainingJob.from_json(self._transport.create(TRAINING, named(job_data, fields)))

    def get_training_job(self, job_id: str) -> TrainingJob:
        return TrainingJob.from_json(self._transport.json("GET", f"{TRAINING}/{segment(job_id)}"))

    def list_training_jobs(
        self, *, page: int | None = None, limit: int | None = None, **filters: Any
    ) -> Page[TrainingJob]:
        """Return one page.

        Filters: name, status, algorithm, framework, task_type, tags (any of them), created_by, dataset_id.
        """
        return self._page(TRAINING, "training_jobs", TrainingJob, {"page": page, "limit": limit, **filters})

    def update_training_job(self, job_id: str, **changes: Any) -> TrainingJob:
        """Change the given fields: ``status="running"``, then ``"completed"`` with its metrics.

        Raises:
            Conflict: its status cannot change to that one; ``details["allowed"]`` lists the possible ones.
        """
        url = f"{TRAINING}/{segment(job_id)}"
        return TrainingJob.from_json(self._transport.json("PATCH", url, data=changes))

    def delete_training_job(self, job_id: str) -> dict[str, Any]:
        """Delete a job. NotFound may mean that an earlier try, whose response was lost, deleted it.

        Raises:
            Conflict: a model refers to it.
        """
        return self._transport.json("DELETE", f"{TRAINING}/{segment(job_id)}")
