"""Secrets that the service makes for itself, once, and every process of it shares."""

import secrets

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, now

SECRET_BYTES = 32


class Secrets:
    def __init__(self, database: Database) -> None:
        self._secrets = database.secrets

    def get(self, name: str) -> bytes:
        """The secret of that name: the first process to ask makes it, and all that ask get the same."""
        made = {"value": secrets.token_bytes(SECRET_BYTES), "created_at": now()}
        while True:
            try:
                stored = self._secrets.find_one_and_update(
                    {"_id": name}, {"$setOnInsert": made}, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                continue  # two upserts at once: the other one's is there now
            assert stored is not None  # an upsert that answers with the document after it
            return bytes(stored["value"])
