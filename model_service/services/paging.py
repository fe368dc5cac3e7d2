"""A page of a list, as every list is answered."""

from dataclasses import dataclass

from model_service.storage.db import Document


@dataclass(frozen=True)
class Page:
    items: list[Document]
    page: int
    limit: int
    total: int

    @property
    def pages(self) -> int:
        return -(-self.total // self.limit)
