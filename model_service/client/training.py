"""Calls on training jobs: the runs that models came from, as their owners report them."""

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
        """A run. ``job_data`` is its name, or a mapping with ``name`` and other fields: status, algorithm,
        framework, task_type, description, hyperparameters, metrics, config, environment, datasets
        (``[{"dataset_id", "role"}]``), code, tags, started_at, finished_at, error, created_by. Fields may
        also be given as keywords. Then ``register_model({..., "training_job_id": job.id})``.

        Raises:
            NotFound: of a dataset.
            InvalidRequest: a wrong field; ``details["fields"]`` names each.
        """
        return TrainingJob.from_json(self._transport.create(TRAINING, named(job_data, fields)))

    def get_training_job(self, job_id: str) -> TrainingJob:
        return TrainingJob.from_json(self._transport.json("GET", f"{TRAINING}/{segment(job_id)}"))

    def list_training_jobs(
        self, *, page: int | None = None, limit: int | None = None, **filters: Any
    ) -> Page[TrainingJob]:
        """One page. Filters: name, status, algorithm, framework, task_type, tags (any of them), created_by,
        dataset_id."""
        return self._page(TRAINING, "training_jobs", TrainingJob, {"page": page, "limit": limit, **filters})

    def update_training_job(self, job_id: str, **changes: Any) -> TrainingJob:
        """Changes the fields that are sent: ``status="running"``, then ``"completed"`` with its metrics.

        Raises:
            Conflict: its status does not become that one; ``details["allowed"]`` lists those it does.
        """
        url = f"{TRAINING}/{segment(job_id)}"
        return TrainingJob.from_json(self._transport.json("PATCH", url, data=changes))

    def delete_training_job(self, job_id: str) -> dict[str, Any]:
        """The service's answer; NotFound may mean that a first, lost answer already was the deletion.

        Raises:
            Conflict: a model came from it.
        """
        return self._transport.json("DELETE", f"{TRAINING}/{segment(job_id)}")
