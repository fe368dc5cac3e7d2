"""The workers that live. Each says so every few seconds, and is forgotten ten minutes after its last word.

RQ keeps such a list in Redis, but hears from an idle worker only every few minutes, and from one that
converts not at all.
"""

from pymongo import WriteConcern

from model_service.storage.clock import from_now
from model_service.storage.db import Database, Document

# A worker that said nothing for so long is gone.
ALIVE_S = 20.0


class Workers:
    def __init__(self, database: Database) -> None:
        # Repeated in a moment: a lost one costs nothing.
        self._workers = database.workers.with_options(write_concern=WriteConcern(w=1))

    def report(self, name: str, state: Document) -> None:
        """This worker lives, and ``state`` is what there is to say of it."""
        said = {field: {"$literal": value} for field, value in state.items()}
        self._workers.update_one({"_id": name}, [{"$set": {**said, "at": "$$NOW"}}], upsert=True)

    def leave(self, name: str) -> None:
        self._workers.delete_one({"_id": name})

    def alive(self, within_s: float) -> list[Document]:
        """Those that said so within that time, by the database's clock."""
        recent = {"$expr": {"$gte": ["$at", from_now(-within_s)]}}
        return list(self._workers.find(recent, sort=[("_id", 1)], limit=1000))
