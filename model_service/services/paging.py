"""A page of a list, as every list is answered."""

from dataclasses import dataclass

from model_service.actor import actor
from model_service.storage.db import Document
from model_service.storage.pages import within


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
    return within(actor().readable_namespaces())
