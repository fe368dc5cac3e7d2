"""/api/v1/models/batch"""

from typing import cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import answer, services
from model_service.api.http.policy import policy
from model_service.api.schemas.batch import Batch, BatchAnswer, BatchItem
from model_service.api.schemas.common import ErrorBody
from model_service.services.models.batch import Operation, Outcome

api = APIBlueprint("batch", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])

_MAKES_ROOM = frozenset({"delete", "untag"})


@api.post("/batch", responses={200: BatchAnswer})
@policy(Permission.WRITE)
def change_models(body: Batch) -> Response:
    """Change up to 1,000 models in one request.

    Each operation succeeds or fails alone: the response is 200, and `results` has for each one, in order,
    the `status` and `error` that its own request would have had. Operations: `tag`, `untag`, `status`,
    `delete`, `restore`, `alias`.
    """
    operations = [cast(Operation, operation.model_dump()) for operation in body.operations]
    if any(operation["op"] not in _MAKES_ROOM for operation in operations):
        services().disk.require_room()
    outcomes = services().batch.run(operations)
    items = [
        _item(index, operation["id"], outcome)
        for index, (operation, outcome) in enumerate(zip(operations, outcomes, strict=True))
    ]
    failed = sum(not item.ok for item in items)
    return answer(
        BatchAnswer(success=failed == 0, succeeded=len(items) - failed, failed=failed, results=items)
    )


def _item(index: int, sent: str, outcome: Outcome) -> BatchItem:
    if outcome.error is None:
        return BatchItem(index=index, id=str(outcome.model_id), ok=True, status=200)
    error = outcome.error
    body = ErrorBody(code=error.code, message=error.message, details=error.details)
    return BatchItem(index=index, id=sent, ok=False, status=error.status, error=body)
