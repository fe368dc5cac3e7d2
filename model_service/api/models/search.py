"""The lists of /api/v1/models and /api/v1/models/search: one view function for both."""

from collections.abc import Mapping, Sequence
from typing import Any

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from model_service.actor import Permission
from model_service.api.http.context import page_limit, services
from model_service.api.http.policy import policy
from model_service.api.models.presentation import json_response, presented, to_json
from model_service.api.schemas.search import ModelPage, ModelPagination, ModelQuery

api = APIBlueprint("search", __name__, url_prefix="/api/v1/models", abp_tags=[Tag(name="models")])


@api.get("", responses={200: ModelPage})
@policy(Permission.READ)
def list_models(query: ModelQuery) -> Response:
    """List and search model versions.

    All filters of a request must match; by default newest first. `min_NAME` and `max_NAME` are bounds of a
    numeric metric: `min_accuracy=0.9`. Use `next_cursor` of a response as `cursor` to read long lists: each
    page costs the same. Above 10,000 versions, `total` may be an estimate (`total_is_estimate`).
    """
    return _answer(query)


@api.get("/search", responses={200: ModelPage})
@policy(Permission.READ)
def search_models(query: ModelQuery) -> Response:
    """Search model versions.

    Takes the same parameters as `GET /api/v1/models` and returns the same response.
    """
    return _answer(query)


def _answer(query: ModelQuery) -> Response:
    limit = page_limit(query)
    found = services().search.search(query.search(limit))
    total = found.total
    pagination = ModelPagination(
        page=None if query.cursor else query.page,
        limit=limit,
        total=total.count if total else None,
        pages=-(-total.count // limit) if total else None,
        total_is_estimate=total.is_estimate if total else False,
        next_cursor=found.next_cursor,
    )
    return answer_models(found.stubs, pagination=pagination.model_dump())


def answer_models(stubs: Sequence[Mapping[str, Any]], **more: object) -> Response:
    """Return ``{"models": […]}`` with the other fields of the response."""
    models = b",".join(presented().of(stubs, services().search.load))
    rest = b"".join(b',"%s":%s' % (name.encode(), to_json(value)) for name, value in more.items())
    return json_response(b'{"models":[%s]%s}' % (models, rest))
