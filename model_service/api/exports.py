"""/api/v1/export"""

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, page_limit, services
from model_service.api.downloads import FILE_RESPONSES, send_file
from model_service.api.idempotency import mark, requested_once
from model_service.api.schemas.common import Pagination
from model_service.api.schemas.exports import (
    CreatedExport,
    ExportJob,
    ExportPage,
    ExportQuery,
    JobPath,
    NewExport,
)
from model_service.services.idempotency import Once
from model_service.services.paging import Page

api = APIBlueprint("exports", __name__, url_prefix="/api/v1/export", abp_tags=[Tag(name="exports")])


def export_json(job: dict[str, Any]) -> dict[str, Any]:
    """The stored job, and its blobs as the seed's paths."""
    files = "files.zip" if "primary" in job.get("source", {}) else "download"
    paths: dict[str, Any] = {"checkpoint_path": f"/api/v1/models/{job['model_id']}/{files}"}
    if "package" in job:
        paths["export_package_path"] = f"/api/v1/export/jobs/{job['_id']}/download"
        paths["export_package_size_bytes"] = job["package"]["size_bytes"]
        paths["export_package_checksum"] = job["package"]["checksum"]
    return job | paths


def _answer(job: dict[str, Any]) -> Response:
    return answer(ExportJob.model_validate(export_json(job)))


def _created(job: dict[str, Any], once: Once | None) -> Response:
    """202; 200 for one that an equal export has answered."""
    token = {"callback_token": services().exports.callback_token(job["_id"])}
    status = 200 if job.get("reused_from") else 202
    return mark(answer(CreatedExport.model_validate(export_json(job) | token), status), once)


def answer_page(page: Page) -> Response:
    jobs = [ExportJob.model_validate(export_json(job)) for job in page.items]
    return answer(ExportPage(jobs=jobs, pagination=Pagination.of(page)))


@api.post("/jobs", responses={200: CreatedExport, 202: CreatedExport})
def create_export(body: NewExport) -> Response:
    """Ask for an export; a worker takes it up (202). With Idempotency-Key, once however often it is sent.

    Where the same was exported with the same tools before, the job is completed at once (200).
    """
    once = requested_once()
    return _created(services().exports.create(**body.model_dump(), once=once), once)


@api.get("/jobs", responses={200: ExportPage})
def list_exports(query: ExportQuery) -> Response:
    """List export jobs, newest first, without their logs."""
    return answer_page(services().exports.search(query.filters(), page=query.page, limit=page_limit(query)))


@api.get("/jobs/<job_id>", responses={200: ExportJob})
def get_export(path: JobPath) -> Response:
    """Read one export job: status, progress, log, and what it measured."""
    return _answer(services().exports.get(path.job_id))


@api.get("/jobs/<job_id>/download", responses=FILE_RESPONSES)
def download_package(path: JobPath) -> Response:
    """Download the package as a zip."""
    return send_file(services().exports.open_package(path.job_id))


@api.post("/<job_id>/cancel", endpoint="cancel", responses={200: ExportJob})
@api.post("/jobs/<job_id>/cancel", responses={200: ExportJob})
def cancel_export(path: JobPath) -> Response:
    """End a job that waits or runs. One that is cancelled already stays so."""
    return _answer(services().export_changes.cancel(path.job_id))


@api.post("/<job_id>/retry", endpoint="retry", responses={200: CreatedExport, 202: CreatedExport})
@api.post("/jobs/<job_id>/retry", responses={200: CreatedExport, 202: CreatedExport})
def retry_export(path: JobPath) -> Response:
    """Ask again for what failed or was cancelled, as a new job. With Idempotency-Key, once."""
    once = requested_once()
    return _created(services().exports.retry(path.job_id, once), once)


@api.post("/<job_id>/set-default", endpoint="set_default", responses={200: ExportJob})
@api.post("/jobs/<job_id>/set-default", responses={200: ExportJob})
def set_default_export(path: JobPath) -> Response:
    """Make it the default export of its model's version, instead of the one that was."""
    return _answer(services().export_changes.set_default(path.job_id))
