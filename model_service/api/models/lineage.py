"""Relations of models: lineage and comparison."""

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.schemas.lineage import (
    Comparison,
    ComparisonPath,
    LineageQuery,
    ModelLineage,
)
from model_service.api.schemas.models import ModelPath

api = APIBlueprint("lineage", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


@api.get("/<model_ref:model_id>/lineage", responses={200: ModelLineage})
@policy(Permission.READ)
def get_lineage(path: ModelPath, query: LineageQuery) -> Response:
    """Read the lineage of a model version.

    `ancestors` follow `parent_model_id`, nearest first. `descendants`, at most `limit`, are the versions
    made from this one, nearest generation first; `truncated` is true if there are more. `training_job` and
    `datasets` are the datasets that the version came from.
    """
    return answer(ModelLineage.model_validate(services().lineage.of(path.model_id, query.limit)))


@api.get("/<model_ref:model_id>/compare/<model_ref:other_id>", responses={200: Comparison})
@policy(Permission.READ)
def compare_models(path: ComparisonPath) -> Response:
    """Compare two model versions.

    Returns the differences between the first version and the second, as `added`, `removed` and `changed`, for
    fields, metrics, hyperparameters, tags, files, dataset information, evaluations and signature. Numeric
    metrics have `delta` and `relative_delta`.
    """
    return answer(Comparison.model_validate(services().comparison.compare(path.model_id, path.other_id)))
