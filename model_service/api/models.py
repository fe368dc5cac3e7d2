"""/api/v1/models"""

import string
from urllib.parse import quote

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, context, page_limit, services
from model_service.api.downloads import FILE_RESPONSES, send_file
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.models import (
    FileMetadata,
    Model,
    ModelChanges,
    ModelInfo,
    ModelPage,
    ModelPath,
    ModelQuery,
    NewModel,
    Registered,
    Uploaded,
)
from model_service.api.uploads import FileBody, incoming_file
from model_service.metrics import DOWNLOADS, REGISTRATIONS, bounded

api = APIBlueprint("models", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


def download_url(model_id: object) -> str:
    return f"/api/v1/models/{model_id}/download"


@api.post("", responses={201: Registered})
def register_model(body: NewModel) -> Response:
    """Register a model version."""
    model = services().models.register(body.model_dump())
    REGISTRATIONS.labels(algorithm=bounded(model["algorithm"])).inc()
    registered = Registered(
        model_id=str(model["_id"]), version=model["version"], download_url=download_url(model["_id"])
    )
    return answer(registered, 201)


@api.get("", responses={200: ModelPage})
def list_models(query: ModelQuery) -> Response:
    """List model versions, newest first."""
    page = services().models.search(query.filters(), query.page, page_limit(query))
    models = [Model.model_validate(item) for item in page.items]
    return answer(ModelPage(models=models, pagination=Pagination.of(page)))


@api.get("/<model_id>", responses={200: Model})
def get_model(path: ModelPath) -> Response:
    """Read one model version."""
    return answer(Model.model_validate(services().models.get(path.model_id)))


@api.put("/<model_id>", responses={200: Model})
def update_model(path: ModelPath, body: ModelChanges) -> Response:
    """Change the metadata that is sent; name and version stay."""
    changes = body.model_dump(exclude_unset=True)
    return answer(Model.model_validate(services().models.update(path.model_id, changes)))


@api.delete("/<model_id>", responses={200: Deleted})
def delete_model(path: ModelPath) -> Response:
    """Delete a model version and its file."""
    services().models.delete(path.model_id)
    return answer(Deleted(message="Model deleted successfully", deleted_id=path.model_id))


@api.post("/<model_id>/upload", responses={201: Uploaded})
def upload_model(path: ModelPath, raw: FileBody) -> Response:
    """Upload the file: the raw body (its name in X-Filename) or the form field 'file', streamed.

    X-Content-SHA256, where sent, is checked before anything is kept.
    """
    incoming = incoming_file(raw, context().settings.max_file_size)
    give_back = context().transfers.take()
    try:
        model = services().models.store_file(
            path.model_id, incoming.pieces, filename=incoming.filename, sha256=incoming.sha256
        )
    finally:
        give_back()
    metadata = FileMetadata.model_validate(model["file_metadata"])
    return answer(Uploaded(model_id=path.model_id, file_metadata=metadata), 201)


@api.get("/<model_id>/download", responses=FILE_RESPONSES)
def download_model(path: ModelPath) -> Response:
    """Download the file. HEAD, Range, If-Range and If-None-Match are honoured."""
    model = services().models.get_with_file(path.model_id)
    response = send_file(services().models.open_file(model))
    # Free text in a header: percent-encoded where it is not plain ASCII.
    response.headers["X-Model-Algorithm"] = quote(model["algorithm"], safe=string.punctuation + " ")
    response.headers["X-Model-Version"] = model["version"]
    if request.method == "GET" and response.status_code == 200:
        try:
            services().models.count_download(model)
        except BaseException:
            response.close()
            raise
        DOWNLOADS.labels(algorithm=bounded(model["algorithm"])).inc()
    return response


@api.get("/<model_id>/info", responses={200: ModelInfo})
def model_info(path: ModelPath) -> Response:
    """What a download would give."""
    model = services().models.get_with_file(path.model_id)
    info = ModelInfo(
        model_id=path.model_id,
        name=model["name"],
        version=model["version"],
        algorithm=model["algorithm"],
        file_metadata=FileMetadata.model_validate(model["file_metadata"]),
        download_count=model["download_count"],
        download_url=download_url(path.model_id),
    )
    return answer(info)
