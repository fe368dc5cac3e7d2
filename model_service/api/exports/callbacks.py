"""/api/v1/export/jobs/{id}/callback and …/package: reports of a conversion that runs elsewhere."""

from collections.abc import Mapping
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.exports.exports import export_json
from model_service.api.files.uploads import FileBody, incoming_file
from model_service.api.http.context import answer, context, services
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.exports import Callback, ExportJob, JobPath

api = APIBlueprint("export_callbacks", __name__, url_prefix="/api/v1/export", abp_tags=[Tag(name="exports")])


def _authorised(job_id: str) -> Any:
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    token = bearer.strip() if scheme.lower() == "bearer" else ""
    return services().export_callbacks.authorised(job_id, request.headers.get("X-Callback-Token", token))


def _answer(job: Mapping[str, Any]) -> Response:
    return answer(ExportJob.model_validate(export_json(job)))


@api.post("/<job_id>/callback", endpoint="callback", responses={200: ExportJob})
@api.post("/jobs/<job_id>/callback", responses={200: ExportJob})
@policy(Caller.ANYONE)
def take_callback(path: JobPath, body: Callback) -> Response:
    """Report the progress of a conversion elsewhere.

    For a conversion that runs outside of the service's workers. Needs the job's `callback_token` as a
    bearer token or in `X-Callback-Token`, and no other credential. `status` is `running`, `failed` or
    `completed`; the first report claims the job (409 if a worker has it). The report that ended a job may
    be repeated; any other one afterwards is a 409.
    """
    job, callbacks = _authorised(path.job_id), services().export_callbacks
    match body.status:
        case "running":
            return _answer(callbacks.running(job, percent=body.progress_percent, message=body.message))
        case "failed":
            return _answer(callbacks.failed(job, code=body.error_code, message=body.error_message))
        case "completed":
            return _answer(callbacks.completed(job))


@api.put("/jobs/<job_id>/package", responses={200: ExportJob})
@policy(Caller.ANYONE)
def put_package(path: JobPath, raw: FileBody) -> Response:
    """Send the package of a conversion elsewhere.

    The raw body is the package, a zip. It completes the job with the verdict `converted_not_executed`,
    because this service did not compare it. Needs the job's `callback_token`. May be repeated.
    """
    job = _authorised(path.job_id)
    incoming = incoming_file(raw, context().settings.export_disk)
    give_back = context().transfers.take()
    try:
        return _answer(services().export_callbacks.store_package(job, incoming.pieces, incoming.sha256))
    finally:
        give_back()
