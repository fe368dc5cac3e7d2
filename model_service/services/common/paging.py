"""Pages of lists, numbered or by cursor."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from model_service.actor import actor
from model_service.errors import InvalidField
from model_service.storage.common.pages import within

T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    items: list[T]
    page: int
    limit: int
    total: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.limit)


def readable() -> dict[str, object]:
    """Return the filter that restricts a list to the caller's namespaces."""
    return within(actor().readable_namespaces())


def cursor_of(position: Sequence[object]) -> str:
    """Encode a position in an order as a cursor, which is valid in a URL."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).rstrip(b"=").decode()


def position_of(cursor: str) -> list[object]:
    """Decode a cursor. Its values must be checked, since clients can make up a cursor.

    Raises:
        InvalidField: it is not a cursor of this service.
    """
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        position = None
    if not isinstance(position, list):
        raise InvalidField.of("cursor", "not a next_cursor of this service")
    return position
