"""The exports of a model version, and of a training job."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.exports.exports import answer_page
from model_service.api.http.context import page_limit, services
from model_service.api.http.policy import policy
from model_service.api.schemas.exports import ExportPage, ExportsOfQuery
from model_service.api.schemas.models import ModelPath
from model_service.api.schemas.training_jobs import JobPath

api = APIBlueprint("exports_of", __name__, url_prefix="/api/v1", abp_tags=[Tag(name="exports")])


@api.get("/models/<model_ref:model_id>/exports", responses={200: ExportPage})
@policy(Permission.READ)
def list_exports_of_model(path: ModelPath, query: ExportsOfQuery) -> Response:
    """List the export jobs of a model version.

    A page, newest first, without the jobs' logs.
    """
    page = services().exports.of_model(
        path.model_id, query.filters(), page=query.page, limit=page_limit(query)
    )
    return answer_page(page)


@api.get("/training/<job_id>/exports", responses={200: ExportPage})
@policy(Permission.READ)
def list_exports_of_training_job(path: JobPath, query: ExportsOfQuery) -> Response:
    """List the export jobs of a training run.

    A page of the export jobs of all models that came from the run, newest first, without the jobs' logs.
    """
    page = services().exports.of_training_job(
        path.job_id, query.filters(), page=query.page, limit=page_limit(query)
    )
    return answer_page(page)
