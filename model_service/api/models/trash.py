"""Deleted models: list and restore."""

from datetime import timedelta

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import context, page_limit, services
from model_service.api.http.policy import policy
from model_service.api.models.models import answer_model
from model_service.api.models.presentation import answer_json, model_json
from model_service.api.schemas.common import Pagination
from model_service.api.schemas.models import Model, ModelPath
from model_service.api.schemas.trash import DeletedModelPage, DeletedModelQuery

api = APIBlueprint("trash", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


@api.get("/deleted", responses={200: DeletedModelPage})
@policy(Permission.READ)
def list_deleted_models(query: DeletedModelQuery) -> Response:
    """List deleted model versions.

    A page of the versions in the trash, newest first, with `deleted_at`, `deleted_by` and `purged_after`, the
    time after which they may be permanently deleted.
    """
    page = services().trash.page(query.page, page_limit(query))
    kept = timedelta(days=context().settings.deleted_keep_days)
    models = [
        model_json(model)
        | {
            "deleted_at": model["deleted_at"],
            "deleted_by": model["deleted_by"],
            "purged_after": model["deleted_at"] + kept,
        }
        for model in page.items
    ]
    return answer_json({"models": models, "pagination": Pagination.of(page).model_dump()})


@api.post("/<model_ref:model_id>/restore", responses={200: Model})
@policy(Permission.WRITE)
def restore_model(path: ModelPath) -> Response:
    """Restore a deleted model version.

    Restores the version from the trash by its id, with its files and those of its aliases that no other
    version has now. 409 if the name has that version again.
    """
    return answer_model(services().trash.restore(path.model_id))
