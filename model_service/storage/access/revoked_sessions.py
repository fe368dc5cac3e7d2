"""The revoked_sessions collection: sessions that were ended early, until their tokens expire."""

from datetime import datetime

from model_service.storage.common.db import Database


class RevokedSessions:
    def __init__(self, database: Database) -> None:
        self._revoked = database.revoked_sessions

    def add(self, session_id: str, expires_at: datetime) -> None:
        """Revoke a session. MongoDB deletes the entry soon after its token has expired at ``expires_at``."""
        self._revoked.update_one({"_id": session_id}, {"$set": {"expires_at": expires_at}}, upsert=True)

    def has(self, session_id: str) -> bool:
        return self._revoked.find_one({"_id": session_id}, {"_id": True}) is not None
