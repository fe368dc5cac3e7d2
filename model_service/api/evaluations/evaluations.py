"""/api/v1/evaluations"""

from typing import cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import policy
from model_service.api.http.urls import link
from model_service.api.schemas.common import Deleted, Pagination
from model_service.api.schemas.evaluations import (
    Evaluation,
    EvaluationPage,
    EvaluationPath,
    EvaluationQuery,
    NewEvaluation,
)
from model_service.services.evaluations.evaluations import SentEvaluation

api = APIBlueprint(
    "evaluations", __name__, url_prefix="/api/v1/evaluations", abp_tags=[Tag(name="evaluations")]
)


@api.post("", responses={202: Evaluation})
@policy(Permission.WRITE)
def create_evaluation(body: NewEvaluation) -> Response:
    """Evaluate a model version or an export on a dataset.

    Needs `dataset_id`, and `model_id` or `export_job_id`. A worker runs the model on the rows of the dataset
    and stores the metrics. 422: the dataset cannot be loaded or does not fit the model, or the task has no
    such metric. 409: no worker has inspected the dataset's file yet. `Idempotency-Key` is supported.
    """
    once = requested_once()
    evaluation = services().evaluations.create(cast(SentEvaluation, body.model_dump()), once)
    response = answer(Evaluation.model_validate(evaluation), 202)
    response.headers["Location"] = link(f"/api/v1/evaluations/{evaluation['_id']}")
    return mark(response, once)


@api.get("", responses={200: EvaluationPage})
@policy(Permission.READ)
def list_evaluations(query: EvaluationQuery) -> Response:
    """List evaluations.

    A page, newest first, without their logs and confusion matrices. All filters of a request must match.
    """
    page = services().evaluations.search(query.filters(), page=query.page, limit=page_limit(query))
    found = [Evaluation.model_validate(evaluation) for evaluation in page.items]
    return answer(EvaluationPage(evaluations=found, pagination=Pagination.of(page)))


@api.get("/<evaluation_id>", responses={200: Evaluation})
@policy(Permission.READ, rate="poll")
def get_evaluation(path: EvaluationPath) -> Response:
    """Read an evaluation.

    Returns status, progress, log, metrics with their intervals, and measured performance. A failed one has
    `error_code` and `error_message`.
    """
    return answer(Evaluation.model_validate(services().evaluations.get(path.evaluation_id)))


@api.post("/<evaluation_id>/cancel", responses={200: Evaluation})
@policy(Permission.WRITE)
def cancel_evaluation(path: EvaluationPath) -> Response:
    """Cancel an evaluation.

    Cancels one that is pending or running. For a cancelled one the response is 200 again; one that completed
    or failed is a 409.
    """
    return answer(Evaluation.model_validate(services().evaluations.cancel(path.evaluation_id)))


@api.delete("/<evaluation_id>", responses={200: Deleted})
@policy(Permission.WRITE)
def delete_evaluation(path: EvaluationPath) -> Response:
    """Delete an evaluation.

    409 while it is pending or running.
    """
    deleted_id = services().evaluations.delete(path.evaluation_id)
    return answer(Deleted(message="Evaluation deleted successfully", deleted_id=deleted_id))
