"""/api/v1/export"""

from collections.abc import Mapping
from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.files.downloads import FILE_RESPONSES, send_file
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.schemas.common import Pagination
from model_service.api.schemas.exports import (
    CreatedExport,
    ExportJob,
    ExportPage,
    ExportQuery,
    JobPath,
    NewExport,
)
from model_service.services.common.idempotency import Once
from model_service.services.common.paging import Page

api = APIBlueprint("exports", __name__, url_prefix="/api/v1/export", abp_tags=[Tag(name="exports")])


def export_json(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored job as JSON, with its blobs as paths in the form of the seed."""
    files = "files.zip" if "primary" in job.get("source", {}) else "download"
    paths: dict[str, Any] = {"checkpoint_path": f"/api/v1/models/{job['model_id']}/{files}"}
    if "package" in job:
        paths["export_package_path"] = f"/api/v1/export/jobs/{job['_id']}/download"
        paths["export_package_size_bytes"] = job["package"]["size_bytes"]
        paths["export_package_checksum"] = job["package"]["checksum"]
    return {**job, **paths}


def _answer(job: Mapping[str, Any]) -> Response:
    return answer(ExportJob.model_validate(export_json(job)))


def _created(job: Mapping[str, Any], once: Once | None) -> Response:
    """Return 202, or 200 if an equal export is reused."""
    token = {"callback_token": services().exports.callback_token(job["_id"])}
    status = 200 if job.get("reused_from") else 202
    return mark(answer(CreatedExport.model_validate(export_json(job) | token), status), once)


def answer_page(page: Page[Any]) -> Response:
    jobs = [ExportJob.model_validate(export_json(job)) for job in page.items]
    return answer(ExportPage(jobs=jobs, pagination=Pagination.of(page)))


@api.post("/jobs", responses={200: CreatedExport, 202: CreatedExport})
@policy(Permission.WRITE)
def create_export(body: NewExport) -> Response:
    """Create an export job.

    Needs `export_format` and `model_id`, or `training_job_id` for the newest model with a file that came from
    that run. 202: a worker will run the job. 200: an equal export, made with the same installed tools, is
    stored already and is returned at once (`reused_from`); `"reuse": false` converts in any case.
    `Idempotency-Key` is supported.
    """
    once = requested_once()
    return _created(services().exports.create(**body.model_dump(), once=once), once)


@api.get("/jobs", responses={200: ExportPage})
@policy(Permission.READ)
def list_exports(query: ExportQuery) -> Response:
    """List export jobs.

    A page, newest first, without the jobs' logs. All filters of a request must match.
    """
    return answer_page(services().exports.search(query.filters(), page=query.page, limit=page_limit(query)))


@api.get("/jobs/<job_id>", responses={200: ExportJob})
@policy(Permission.READ, rate="poll")
def get_export(path: JobPath) -> Response:
    """Read an export job.

    Returns status, progress, log, verdict (`fidelity`), measured performance, inputs and outputs. A failed
    job has `error_code` and `error_message`.
    """
    return _answer(services().exports.get(path.job_id))


@api.get("/jobs/<job_id>/download", responses=FILE_RESPONSES)
@policy(Permission.READ, rate="download")
def download_package(path: JobPath) -> Response:
    """Download the package of an export.

    Returns a zip. A job whose comparison failed has a package too, for diagnosis. `HEAD`, `Range` and
    `If-None-Match` are supported.
    """
    return send_file(services().exports.open_package(path.job_id))


@api.post("/<job_id>/cancel", endpoint="cancel", responses={200: ExportJob})
@api.post("/jobs/<job_id>/cancel", responses={200: ExportJob})
@policy(Permission.WRITE)
def cancel_export(path: JobPath) -> Response:
    """Cancel an export job.

    Cancels a job that is pending or running; a running conversion is killed within about a second. For a
    cancelled job the response is 200 again; a job that completed or failed is a 409.
    """
    return _answer(services().export_changes.cancel(path.job_id))


@api.post("/<job_id>/retry", endpoint="retry", responses={200: CreatedExport, 202: CreatedExport})
@api.post("/jobs/<job_id>/retry", responses={200: CreatedExport, 202: CreatedExport})
@policy(Permission.WRITE)
def retry_export(path: JobPath) -> Response:
    """Retry an export job.

    Creates a new job for one that failed or was cancelled, with the same source, options and `trace_id`;
    `retry_of` names the earlier job, which does not change. `Idempotency-Key` is supported.
    """
    once = requested_once()
    return _created(services().exports.retry(path.job_id, once), once)


@api.post("/<job_id>/set-default", endpoint="set_default", responses={200: ExportJob})
@api.post("/jobs/<job_id>/set-default", responses={200: ExportJob})
@policy(Permission.WRITE)
def set_default_export(path: JobPath) -> Response:
    """Make an export the default.

    The completed export becomes the default of its model's version, and of its training job if it has one. It
    replaces the earlier default.
    """
    return _answer(services().export_changes.set_default(path.job_id))
