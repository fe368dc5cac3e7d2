"""The namespaces with models, from the statistics counters."""

from model_service.storage.common.db import Database, Document
from model_service.storage.common.slots import counters_of


class Namespaces:
    def __init__(self, database: Database) -> None:
        self._counters = database.model_counters

    def counts(self, namespaces: list[str] | None) -> dict[str, Document]:
        """Return ``models`` and ``size_bytes`` of these namespaces or of all, without empty ones.

        Reads the counters, one document per group and slot, and no models.
        """
        rows = self._counters.aggregate(
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
        return {row.pop("_id"): row for row in rows}
