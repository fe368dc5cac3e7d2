"""Numbered pages of a collection, with the number of matching documents."""

from typing import Any

from pymongo.collection import Collection

from model_service.storage.common.db import Document

NEWEST_FIRST = [("created_at", -1), ("_id", -1)]
# A total is counted up to this limit: clients do not go further, and counting reads an index key each.
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
    """Return the documents of one page in order, and the total, counted up to COUNTED.

    Args:
        order: the keys of an index of the collection.
        fields: the projection; None: all fields.
    """
    found = collection.find(query, fields, sort=order, skip=skip, limit=limit)
    # Without a query, only a hint makes MongoDB count index keys instead of reading documents.
    hint: dict[str, Any] = {} if query else {"hint": order}
    return list(found), collection.count_documents(query, limit=COUNTED, **hint)


def within(namespaces: list[str] | None) -> Document:
    """Return the filter for these namespaces; None: no restriction."""
    return {} if namespaces is None else {"namespace": {"$in": namespaces}}
