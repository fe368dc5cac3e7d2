"""The api_keys collection: keys of endpoints. (``access_keys`` holds the API keys of the registry.)

Expired keys are listed for a week, then deleted.
"""

from datetime import datetime, timedelta

from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.deployments.documents import DeploymentKey


class DeploymentKeys:
    def __init__(self, database: Database) -> None:
        self._keys = database.api_keys

    def insert(self, key: DeploymentKey, session: Session) -> None:
        self._keys.insert_one(key, session=session)

    def of(self, deployment_id: str) -> list[DeploymentKey]:
        """Return all keys of a deployment, newest first."""
        return list(self._keys.find({"deployment_id": deployment_id}, sort=[("created_at", -1), ("_id", -1)]))

    def next_expiry(self, used_within: timedelta) -> datetime | None:
        """Return the earliest future expiry of the keys that were used within that time."""
        at = now()
        used: Fields = {"last_used_at": {"$gt": at - used_within}, "rotated": {"$ne": True}}
        query = {"expires_at": {"$gt": at}, **used}
        found = self._keys.find_one(query, {"expires_at": True}, sort=[("expires_at", 1)])
        return found["expires_at"] if found is not None else None

    def get(self, deployment_id: str, key_id: str, session: Session | None = None) -> DeploymentKey | None:
        return self._keys.find_one({"_id": key_id, "deployment_id": deployment_id}, session=session)

    def with_digest(self, deployment_id: str, sha256: str) -> DeploymentKey | None:
        return self._keys.find_one({"deployment_id": deployment_id, "sha256": sha256})

    def count(self, deployment_id: str, session: Session) -> int:
        """Return the number of valid keys."""
        working = {"$or": [{"expires_at": None}, {"expires_at": {"$gt": now()}}]}
        return self._keys.count_documents({"deployment_id": deployment_id} | working, session=session)

    def replaced(self, key_id: str, until: datetime, session: Session) -> None:
        """Mark a key as rotated and let it expire at ``until``."""
        changes = {"expires_at": until, "rotated": True}
        self._keys.update_one({"_id": key_id}, {"$set": changes}, session=session)

    def delete(self, deployment_id: str, key_id: str, session: Session) -> DeploymentKey | None:
        return self._keys.find_one_and_delete(
            {"_id": key_id, "deployment_id": deployment_id}, session=session
        )

    def delete_of(self, deployment_id: str, session: Session) -> None:
        self._keys.delete_many({"deployment_id": deployment_id}, session=session)
