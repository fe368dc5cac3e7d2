"""/api/v1/training"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.urls import link
from model_service.api.models.revisions import demanded_revisions, not_modified, tagged
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.training_jobs import (
    JobPath,
    NewTrainingJob,
    TrainingChanges,
    TrainingJob,
    TrainingPage,
    TrainingQuery,
)
from model_service.services.training.jobs import SentTrainingJob

api = APIBlueprint("training", __name__, url_prefix="/api/v1/training", abp_tags=[Tag(name="training")])


def _answer(job: Mapping[str, Any], status: int = 200) -> Response:
    return tagged(answer(TrainingJob.model_validate(job), status), job["revision"])


@api.post("", responses={201: TrainingJob})
@policy(Permission.WRITE)
def create_training_job(body: NewTrainingJob) -> Response:
    """Create the record of a training run.

    The service does not train: it stores the reports of the program that trains. A finished run can be
    recorded as well. Datasets must exist (404). `Idempotency-Key` is supported.
    """
    once = requested_once()
    job = services().training_jobs.create(cast(SentTrainingJob, body.model_dump()), once)
    response = _answer(job, 201)
    response.headers["Location"] = link(f"/api/v1/training/{job['_id']}")
    return mark(response, once)


@api.get("", responses={200: TrainingPage})
@policy(Permission.READ)
def list_training_jobs(query: TrainingQuery) -> Response:
    """List training jobs.

    A page, newest first. All filters of a request must match.
    """
    page = services().training_jobs.page(query.filters(), query.page, page_limit(query))
    jobs = [TrainingJob.model_validate(job) for job in page.items]
    return answer(TrainingPage(training_jobs=jobs, pagination=Pagination.of(page)))


@api.get("/<job_id>", responses={200: TrainingJob, 304: None})
@policy(Permission.READ, rate="poll")
def get_training_job(path: JobPath) -> Response:
    """Read a training job.

    The `ETag` is the job's `revision`; `If-None-Match` with it gives 304. `duration_s` is present once the
    job has started and finished.
    """
    job = services().training_jobs.get(path.job_id)
    return not_modified(job["revision"]) or _answer(job)


@api.patch("/<job_id>", responses={200: TrainingJob})
@policy(Permission.WRITE)
def patch_training_job(path: JobPath, body: TrainingChanges) -> Response:
    """Change some fields of a training job.

    Each sent field is replaced as a whole; `null` clears a field that may be empty. A `status` that may not
    follow the present one is a 409 with `details.allowed`. `started_at` and `finished_at` are set by the
    status unless they are sent. `If-Match` is supported.
    """
    # The whole body: nested fields get their defaults.
    changes = cast(SentTrainingJob, body.model_dump(include=body.model_fields_set))
    return _answer(services().training_jobs.update(path.job_id, changes, revisions=demanded_revisions()))


@api.delete("/<job_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def delete_training_job(path: JobPath) -> Response:
    """Delete a training job.

    409 while a model refers to it, also a model in the trash.
    """
    deleted_id = services().training_jobs.delete(path.job_id)
    return answer(Deleted(message="Training job deleted successfully", deleted_id=deleted_id))
