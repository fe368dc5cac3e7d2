"""Secrets that the service generates once and that all its processes share."""

import secrets
from functools import cached_property

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.storage.common.db import Database, now

SECRET_BYTES = 32


class Secrets:
    def __init__(self, database: Database) -> None:
        self._secrets = database.secrets

    def get(self, name: str) -> bytes:
        """Return the secret of that name. The first caller generates it; all callers get the same."""
        made = {"value": secrets.token_bytes(SECRET_BYTES), "created_at": now()}
        while True:
            try:
                stored = self._secrets.find_one_and_update(
                    {"_id": name}, {"$setOnInsert": made}, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                continue  # concurrent upserts: the other one has stored a secret
            assert stored is not None  # an upsert that returns the document after it
            return bytes(stored["value"])

    @cached_property
    def installation_id(self) -> str:
        """An id that distinguishes installations on one Redis: generated once and stored in the database."""
        return self.get("installation").hex()[:16]

    @property
    def redis_prefix(self) -> str:
        """The start of all names in Redis."""
        return f"model-service:{self.installation_id}:"
