"""A numbered page of a collection, and how many documents match in all."""

from typing import Any

from pymongo.collection import Collection

from model_service.storage.common.db import Document

NEWEST_FIRST = [("created_at", -1), ("_id", -1)]
# A total is counted up to here: nobody turns more pages, and counting reads an index's key each.
COUNTED = 10_000


def page_of(
    collection: Collection[Document],
    query: Document,
    skip: int,
    limit: int,
    *,
    order: list[tuple[str, int]] = NEWEST_FIRST,
    fields: Document | None = None,
) -> tuple[list[Document], int]:
    """The documents of one page in their order, and the total, which ends at COUNTED.

    Args:
        order: the keys of an index of the collection.
        fields: those to read, or not to; all.
    """
    found = collection.find(query, fields, sort=order, skip=skip, limit=limit)
    # Without a query nothing but a hint makes it count an index's keys instead of reading documents.
    hint: dict[str, Any] = {} if query else {"hint": order}
    return list(found), collection.count_documents(query, limit=COUNTED, **hint)


def within(namespaces: list[str] | None) -> Document:
    """What restricts a query to these namespaces; None: nothing does."""
    return {} if namespaces is None else {"namespace": {"$in": namespaces}}
