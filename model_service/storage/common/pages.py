"""Numbered pages of a collection, with the number of matching documents."""

from pymongo.collection import Collection

from model_service.storage.common.documents import D, Fields

NEWEST_FIRST = [("created_at", -1), ("_id", -1)]
# A total is counted up to this limit: clients do not go further, and counting reads an index key each.
COUNTED = 10_000


def page_of(
    collection: Collection[D],
    query: Fields,
    skip: int,
    limit: int,
    *,
    order: list[tuple[str, int]] = NEWEST_FIRST,
    fields: Fields | None = None,
) -> tuple[list[D], int]:
    """Return the documents of one page in order, and the total, counted up to COUNTED.

    Args:
        order: the keys of an index of the collection.
        fields: the projection; None: all fields.
    """
    found = collection.find(query, fields, sort=order, skip=skip, limit=limit)
    # Without a query, only a hint makes MongoDB count index keys instead of reading documents.
    if query:
        return list(found), collection.count_documents(query, limit=COUNTED)
    return list(found), collection.count_documents(query, limit=COUNTED, hint=order)


def within(namespaces: list[str] | None) -> dict[str, object]:
    """Return the filter for these namespaces; None: no restriction."""
    return {} if namespaces is None else {"namespace": {"$in": namespaces}}
