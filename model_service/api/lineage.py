"""How models relate: what they were made from, and what differs."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.api.context import answer, services
from model_service.api.schemas.lineage import (
    Comparison,
    ComparisonPath,
    LineageQuery,
    ModelLineage,
)
from model_service.api.schemas.models import ModelPath

api = APIBlueprint("lineage", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


@api.get("/<model_ref:model_id>/lineage", responses={200: ModelLineage})
def get_lineage(path: ModelPath, query: LineageQuery) -> Response:
    """What it was made from, along parent_model_id, and what was made from it."""
    return answer(ModelLineage.model_validate(services().lineage.of(path.model_id, query.limit)))


@api.get("/<model_ref:model_id>/compare/<model_ref:other_id>", responses={200: Comparison})
def compare_models(path: ComparisonPath) -> Response:
    """What differs, from the first to the second."""
    return answer(Comparison.model_validate(services().comparison.compare(path.model_id, path.other_id)))
