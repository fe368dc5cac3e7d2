"""/api/v1/export"""

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, page_limit, services
from model_service.api.downloads import FILE_RESPONSES, send_file
from model_service.api.idempotency import mark, requested_once
from model_service.api.schemas.common import Pagination
from model_service.api.schemas.exports import ExportJob, ExportPage, ExportQuery, JobPath, NewExport

api = APIBlueprint("exports", __name__, url_prefix="/api/v1/export", abp_tags=[Tag(name="exports")])


def _view(job: dict[str, Any]) -> ExportJob:
    """The stored job, and its blobs as the seed's paths."""
    paths: dict[str, Any] = {"checkpoint_path": f"/api/v1/models/{job['model_id']}/download"}
    if "package" in job:
        paths["export_package_path"] = f"/api/v1/export/jobs/{job['_id']}/download"
        paths["export_package_size_bytes"] = job["package"]["size_bytes"]
        paths["export_package_checksum"] = job["package"]["checksum"]
    return ExportJob.model_validate(job | paths)


@api.post("/jobs", responses={202: ExportJob})
def create_export(body: NewExport) -> Response:
    """Ask for an export; a worker takes it up. With Idempotency-Key, once however often it is sent."""
    once = requested_once()
    return mark(answer(_view(services().exports.create(**body.model_dump(), once=once)), 202), once)


@api.get("/jobs", responses={200: ExportPage})
def list_exports(query: ExportQuery) -> Response:
    """List export jobs, newest first, without their logs."""
    page = services().exports.search(
        model_id=query.model_id, status=query.status, page=query.page, limit=page_limit(query)
    )
    return answer(ExportPage(jobs=[_view(job) for job in page.items], pagination=Pagination.of(page)))


@api.get("/jobs/<job_id>", responses={200: ExportJob})
def get_export(path: JobPath) -> Response:
    """Read one export job: status, progress, log, and what it measured."""
    return answer(_view(services().exports.get(path.job_id)))


@api.get("/jobs/<job_id>/download", responses=FILE_RESPONSES)
def download_package(path: JobPath) -> Response:
    """Download the package as a zip."""
    return send_file(services().exports.open_package(path.job_id))
