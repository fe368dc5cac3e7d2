"""Ancestors and descendants of a model along ``parent_model_id``."""

from bson import ObjectId

from model_service.storage.common.db import Database
from model_service.storage.common.pages import within
from model_service.storage.models.documents import Model

# The fields read for each model of a lineage.
FIELDS = ("name", "version", "status", "parent_model_id", "training_job_id", "created_at")
# A lookup may use 100 MB in the server, and a document has at most some 600 kB.
STEP = 100


class Lineage:
    def __init__(self, database: Database) -> None:
        self._models = database.models

    def ancestors(self, model: Model, max_depth: int) -> list[Model]:
        """Return the parent, its parent, and so on as far as they exist, nearest first."""
        chain: list[Model] = []
        while len(chain) < max_depth and (above := self._above(chain[-1] if chain else model)):
            chain += above
        return chain[:max_depth]

    def _above(self, model: Model) -> list[Model]:
        if model.get("parent_model_id") is None:
            return []
        return list(
            self._models.aggregate(
                [
                    {"$match": {"_id": model["_id"]}},
                    {
                        "$graphLookup": {
                            "from": self._models.name,
                            "startWith": "$parent_model_id",
                            "connectFromField": "parent_model_id",
                            "connectToField": "_id",
                            "maxDepth": STEP - 1,
                            "depthField": "depth",
                            "as": "above",
                        }
                    },
                    {"$unwind": "$above"},
                    {"$replaceRoot": {"newRoot": "$above"}},
                    {"$project": dict.fromkeys((*FIELDS, "depth"), True)},
                    {"$sort": {"depth": 1}},
                ]
            )
        )

    def children(self, parents: list[ObjectId], namespaces: list[str] | None, limit: int) -> list[Model]:
        """Return the children of these models, oldest first, in these namespaces or in all."""
        query = within(namespaces) | {"parent_model_id": {"$in": parents}}
        return list(self._models.find(query, dict.fromkeys(FIELDS, True), sort=[("_id", 1)], limit=limit))
