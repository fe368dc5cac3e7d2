"""The namespaces with models, from the statistics counters."""

from typing_extensions import TypedDict

from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database
from model_service.storage.common.slots import counters_of


class NamespaceCounts(TypedDict):
    models: int
    size_bytes: int


class _Row(NamespaceCounts):
    _id: str


class Namespaces:
    def __init__(self, database: Database) -> None:
        self._counters = database.model_counters

    def counts(self, namespaces: list[str] | None) -> dict[str, NamespaceCounts]:
        """Return ``models`` and ``size_bytes`` of these namespaces or of all, without empty ones.

        Reads the counters, one document per group and slot, and no models.
        """
        found = self._counters.aggregate(
            [
                {"$match": counters_of(namespaces)},
                {
                    "$group": {
                        "_id": "$_id.namespace",
                        "models": {"$sum": "$models"},
                        "size_bytes": {"$sum": "$bytes"},
                    }
                },
                {"$match": {"models": {"$gt": 0}}},
            ]
        )
        return {
            row["_id"]: {"models": row["models"], "size_bytes": row["size_bytes"]}
            for row in rows(found, _Row)
        }
