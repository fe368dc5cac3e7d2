"""Access to the application and the request for views."""

from dataclasses import dataclass
from typing import cast

from flask import Response, current_app
from pydantic import BaseModel

from model_service.api.http.transfers import StreamSlots, TransferSlots
from model_service.api.schemas.common import Limited
from model_service.config import Settings
from model_service.errors import InvalidField
from model_service.services import Services

EXTENSION = "model_service"
DEFAULT_LIMIT = 20


@dataclass(frozen=True)
class Context:
    settings: Settings
    services: Services
    transfers: TransferSlots
    streams: StreamSlots


def context() -> Context:
    return cast(Context, current_app.extensions[EXTENSION])


def services() -> Services:
    return context().services


def answer(body: BaseModel, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, mimetype="application/json")


def page_limit(query: Limited) -> int:
    """Return the page size. Raises: InvalidField: more than MAX_PAGE_SIZE."""
    most = context().settings.max_page_size
    if query.limit is None:
        return min(DEFAULT_LIMIT, most)
    if query.limit > most:
        raise InvalidField.of(
            "limit", f"at most {most}, the service's MAX_PAGE_SIZE", wrong=f"limit={query.limit} is too large"
        )
    return query.limit
