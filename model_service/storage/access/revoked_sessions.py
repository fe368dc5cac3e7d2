"""The revoked_sessions collection: sessions that were ended before their time, until that time."""

from datetime import datetime

from model_service.storage.common.db import Database


class RevokedSessions:
    def __init__(self, database: Database) -> None:
        self._revoked = database.revoked_sessions

    def add(self, session_id: str, expires_at: datetime) -> None:
        """The database forgets it soon after ``expires_at``, when nobody accepts the session any more."""
        self._revoked.update_one({"_id": session_id}, {"$set": {"expires_at": expires_at}}, upsert=True)

    def has(self, session_id: str) -> bool:
        return self._revoked.find_one({"_id": session_id}, {"_id": True}) is not None
