"""The api_keys collection: keys of endpoints. (``access_keys`` are those of the registry's own API.)

{_id, deployment_id, name, prefix, sha256, created_at, expires_at or None, last_used_at or None}, and
``rotated`` where another key has taken its place. One that has expired is shown for a week, then forgotten.
"""

from datetime import datetime

from model_service.storage.common.db import Database, Document, Session, now


class DeploymentKeys:
    def __init__(self, database: Database) -> None:
        self._keys = database.api_keys

    def insert(self, key: Document, session: Session) -> None:
        self._keys.insert_one(key, session=session)

    def of(self, deployment_id: str) -> list[Document]:
        """All of a deployment's, newest first."""
        return list(self._keys.find({"deployment_id": deployment_id}, sort=[("created_at", -1), ("_id", -1)]))

    def get(self, deployment_id: str, key_id: str, session: Session | None = None) -> Document | None:
        return self._keys.find_one({"_id": key_id, "deployment_id": deployment_id}, session=session)

    def with_digest(self, deployment_id: str, sha256: str) -> Document | None:
        return self._keys.find_one({"deployment_id": deployment_id, "sha256": sha256})

    def count(self, deployment_id: str, session: Session) -> int:
        """Of those that work."""
        working = {"$or": [{"expires_at": None}, {"expires_at": {"$gt": now()}}]}
        return self._keys.count_documents({"deployment_id": deployment_id} | working, session=session)

    def replaced(self, key_id: str, until: datetime, session: Session) -> None:
        """Have a key that was rotated work no longer than until then."""
        changes = {"expires_at": until, "rotated": True}
        self._keys.update_one({"_id": key_id}, {"$set": changes}, session=session)

    def delete(self, deployment_id: str, key_id: str, session: Session) -> Document | None:
        return self._keys.find_one_and_delete(
            {"_id": key_id, "deployment_id": deployment_id}, session=session
        )

    def delete_of(self, deployment_id: str, session: Session) -> None:
        self._keys.delete_many({"deployment_id": deployment_id}, session=session)
