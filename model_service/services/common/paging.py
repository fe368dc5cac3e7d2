"""A page of a list, as every list is answered: numbered, or from a cursor on."""

import base64
from dataclasses import dataclass
from typing import Any

import orjson

from model_service.actor import actor
from model_service.errors import InvalidField
from model_service.storage.common.db import Document
from model_service.storage.common.pages import within


@dataclass(frozen=True)
class Page:
    items: list[Document]
    page: int
    limit: int
    total: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.limit)


def readable() -> Document:
    """What restricts a list to the namespaces of the caller."""
    return within(actor().readable_namespaces())


def cursor_of(position: list[Any]) -> str:
    """A position in an order, for a URL."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).rstrip(b"=").decode()


def position_of(cursor: str) -> list[Any]:
    """What ``cursor_of`` was given; of a cursor that somebody made up, any values.

    Raises:
        InvalidField: no cursor of this service.
    """
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        position = None
    if not isinstance(position, list):
        raise InvalidField.of("cursor", "not a next_cursor of this service")
    return position
