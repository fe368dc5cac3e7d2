"""The webhooks' events of jobs that workers run."""

from dataclasses import dataclass

from model_service.states import JobStatus
from model_service.storage.common.db import Session
from model_service.storage.common.documents import Fields, NewEvent
from model_service.storage.common.outbox import Outbox, new_event

# What an event says about its job; ``events`` of a job need these fields of its document.
_SHOWN = {
    "user": "user_id",
    "name": "model_name",
    "version": "model_version",
    "model_id": "model_id",
    "format": "export_format",
    "dataset": "dataset_name",
    "dataset_version": "dataset_version",
    "export_job_id": "export_job_id",
    "error_code": "error_code",
}
READ = dict.fromkeys((*_SHOWN.values(), "status"), True)


@dataclass(frozen=True)
class JobEvents:
    """Events of one kind of job. ``path`` is that of the jobs in the API."""

    outbox: Outbox
    kind: str
    path: str

    def record(
        self, job: Fields, before: str | None, after: str, session: Session, *, error_code: str | None = None
    ) -> None:
        """Record that the job's status has changed; nothing if it is the same.

        Args:
            job: its document before or after the change, with at least the fields of ``READ``.
            error_code: of a job that fails.
        """
        if before != after:
            self.outbox.record(lambda: [self._event(job, before, after, error_code)], session)

    def _event(self, job: Fields, before: str | None, after: str, error_code: str | None) -> NewEvent:
        data = {name: job.get(field) for name, field in _SHOWN.items()}
        data["error_code"] = error_code or data["error_code"]
        return new_event(
            self.kind,
            JobStatus(after),
            job["_id"],
            str(job["model_name"]),
            f"{self.path}/{job['_id']}",
            before=before,
            after=after,
            data=data,
        )


def of_exports(outbox: Outbox) -> JobEvents:
    return JobEvents(outbox, "export", "/api/v1/export/jobs")


def of_evaluations(outbox: Outbox) -> JobEvents:
    return JobEvents(outbox, "evaluation", "/api/v1/evaluations")
