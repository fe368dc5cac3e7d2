"""/api/v1/models"""

from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, services
from model_service.api.idempotency import mark, requested_once
from model_service.api.presentation import answer_json, json_response, model_bytes, model_json
from model_service.api.revisions import demanded_revisions, not_modified, tagged
from model_service.api.schemas.common import Deleted
from model_service.api.schemas.models import (
    DeleteQuery,
    Model,
    ModelChanges,
    ModelPath,
    NewModel,
    NewVersion,
    Registered,
)
from model_service.api.urls import link
from model_service.metrics import REGISTRATIONS, bounded
from model_service.services.idempotency import Once

api = APIBlueprint("models", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


def registered(model: dict[str, Any], once: Once | None) -> Response:
    """The answer to whatever made a version: the same to its repetition."""
    if once is None or not once.replayed:
        REGISTRATIONS.labels(algorithm=bounded(model["algorithm"])).inc()
    body = Registered(
        model_id=str(model["_id"]),
        version=model["version"],
        download_url=link(f"/api/v1/models/{model['_id']}/download"),
    )
    response = tagged(answer(body, 201), model["revision"])
    response.headers["Location"] = link(f"/api/v1/models/{model['_id']}")
    return mark(response, once)


def answer_model(model: dict[str, Any]) -> Response:
    return tagged(answer_json(model_json(model)), model["revision"])


@api.post("", responses={201: Registered})
def register_model(body: NewModel) -> Response:
    """Register a model version. With Idempotency-Key, once however often it is sent."""
    once = requested_once()
    return registered(services().models.register(body.model_dump(), once), once)


@api.post("/<model_ref:model_id>/versions", responses={201: Registered})
def create_model_version(path: ModelPath, body: NewVersion) -> Response:
    """Make a version from this one: its fields, with the changes that are sent."""
    once = requested_once()
    changes = body.model_dump(exclude_unset=True, exclude={"copy_files"})
    model = services().models.new_version(path.model_id, changes, copy_files=body.copy_files, once=once)
    return registered(model, once)


@api.get("/<model_ref:model_id>", responses={200: Model, 304: None})
def get_model(path: ModelPath) -> Response:
    """Read one model version: by its id, models:/NAME/v1.2, models:/NAME@ALIAS or models:/NAME/latest."""
    model = services().models.answer(path.model_id, model_bytes)
    return not_modified(model.revision) or tagged(json_response(model.body), model.revision)


@api.put("/<model_ref:model_id>", responses={200: Model})
def update_model(path: ModelPath, body: ModelChanges) -> Response:
    """Change the metadata that is sent; name and version stay. If-Match is honoured."""
    return _change(path, body)


@api.patch("/<model_ref:model_id>", responses={200: Model})
def patch_model(path: ModelPath, body: ModelChanges) -> Response:
    """Change the fields that are sent; null clears one that may be empty. If-Match is honoured."""
    return _change(path, body)


def _change(path: ModelPath, body: ModelChanges) -> Response:
    changes = body.model_dump(exclude_unset=True)
    return answer_model(services().models.update(path.model_id, changes, revisions=demanded_revisions()))


@api.delete("/<model_ref:model_id>", responses={200: Deleted})
def delete_model(path: ModelPath, query: DeleteQuery) -> Response:
    """Put a model version and its files into the trash; with purge, remove them for good."""
    deleted_id = services().models.delete(path.model_id, purge=query.purge)
    return answer(Deleted(message="Model deleted successfully", deleted_id=deleted_id))
