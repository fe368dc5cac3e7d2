"""Deleted models: seen, and brought back."""

from datetime import timedelta

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import context, page_limit, services
from model_service.api.models import answer_model
from model_service.api.presentation import answer_json, model_json
from model_service.api.schemas.common import Pagination
from model_service.api.schemas.models import Model, ModelPath
from model_service.api.schemas.trash import DeletedModelPage, DeletedModelQuery

api = APIBlueprint("trash", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


@api.get("/deleted", responses={200: DeletedModelPage})
def list_deleted_models(query: DeletedModelQuery) -> Response:
    """List the deleted versions that can be restored, newest first."""
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
def restore_model(path: ModelPath) -> Response:
    """Bring a deleted version back, with its files and those of its aliases that are free. Takes its id."""
    return answer_model(services().trash.restore(path.model_id))
