"""/api/v1/models"""

from collections.abc import Mapping
from typing import Any, cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.urls import link
from model_service.api.models.presentation import answer_json, json_response, model_bytes, model_json
from model_service.api.models.revisions import demanded_revisions, not_modified, tagged
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
from model_service.metrics import REGISTRATIONS, bounded
from model_service.services.common.idempotency import Once
from model_service.services.models.models import SentModel

api = APIBlueprint("models", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


def registered(model: Mapping[str, Any], once: Once | None) -> Response:
    """Return the response to a request that created a version; a repeated request gets the same one."""
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


def answer_model(model: Mapping[str, Any]) -> Response:
    return tagged(answer_json(model_json(model)), model["revision"])


@api.post("", responses={201: Registered})
@policy(Permission.WRITE)
def register_model(body: NewModel) -> Response:
    """Register a model version.

    Needs `name` and `algorithm`. Without `version` the name gets its next minor version, from `v1.0` on; with
    `breaking_changes` the next major one. A version number is used only once: 409 if the name has or had it.
    `parent_model_id`, `training_job_id` and `dataset_ids` must exist (404). With `Idempotency-Key`, a
    repeated request creates nothing and gets the first response.
    """
    once = requested_once()
    return registered(services().models.register(cast(SentModel, body.model_dump()), once), once)


@api.post("/<model_ref:model_id>/versions", responses={201: Registered})
@policy(Permission.WRITE)
def create_model_version(path: ModelPath, body: NewVersion) -> Response:
    """Create a version from another one.

    The new version has the fields of the one in the path, except those in the body, and names it as
    `parent_model_id`. It gets the next minor version of its parent's major version, or the next major one
    with `breaking_changes`. `copy_files` gives it the parent's files as well; no bytes are copied.
    `Idempotency-Key` is supported.
    """
    once = requested_once()
    changes = cast(SentModel, body.model_dump(exclude_unset=True, exclude={"copy_files"}))
    model = services().models.new_version(path.model_id, changes, copy_files=body.copy_files, once=once)
    return registered(model, once)


@api.get("/<model_ref:model_id>", responses={200: Model, 304: None})
@policy(Permission.READ)
def get_model(path: ModelPath) -> Response:
    """Read a model version.

    The id may be a reference: `NAME/v1.2`, `NAME@ALIAS` or `NAME/latest`, percent-encoded as one segment of
    the path. The `ETag` is the version's `revision`; `If-None-Match` with it gives 304.
    """
    model = services().models.answer(path.model_id, model_bytes)
    return not_modified(model.revision) or tagged(json_response(model.body), model.revision)


@api.put("/<model_ref:model_id>", responses={200: Model})
@policy(Permission.WRITE)
def update_model(path: ModelPath, body: ModelChanges) -> Response:
    """Change a model version.

    The same as PATCH: fields that are not sent stay as they are.
    """
    return _change(path, body)


@api.patch("/<model_ref:model_id>", responses={200: Model})
@policy(Permission.WRITE)
def patch_model(path: ModelPath, body: ModelChanges) -> Response:
    """Change some fields of a model version.

    Each sent field is replaced as a whole; `null` clears a field that may be empty. Name and version cannot
    change. A `status` that may not follow the present one is a 409 with `details.allowed`. With `If-Match`,
    the change is made only if the version still has that `ETag` (otherwise 412).
    """
    return _change(path, body)


def _change(path: ModelPath, body: ModelChanges) -> Response:
    changes = cast(SentModel, body.model_dump(exclude_unset=True))
    return answer_model(services().models.update(path.model_id, changes, revisions=demanded_revisions()))


@api.delete("/<model_ref:model_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def delete_model(path: ModelPath, query: DeleteQuery) -> Response:
    """Delete a model version.

    Moves the version and its files to the trash, where it can be restored for `DELETED_KEEP_DAYS`. With
    `purge=true` it is permanently deleted, also from the trash. Exports made from it stay.
    """
    deleted_id = services().models.delete(path.model_id, purge=query.purge)
    return answer(Deleted(message="Model deleted successfully", deleted_id=deleted_id))
