"""A page of a list, as every list is answered."""

from dataclasses import dataclass

from model_service.actor import actor
from model_service.storage.db import Document

# A total is counted up to here: nobody turns more pages.
COUNTED = 10_000


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
    """What restricts a list to the namespaces of whoever acts."""
    namespaces = actor().readable_namespaces()
    return {} if namespaces is None else {"namespace": {"$in": namespaces}}
