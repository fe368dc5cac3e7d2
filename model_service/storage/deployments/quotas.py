"""The number of a user's deployments that are served or starting, counted in the deployments."""

from model_service.states import SERVED
from model_service.storage.common.db import Database, Session


class DeploymentQuotas:
    def __init__(self, database: Database) -> None:
        self._deployments = database.deployments
        self._quotas = database.deployment_quotas

    def hold(self, user_id: str, session: Session) -> None:
        """Serialise transactions that add an active deployment of this user: the later one counts again."""
        self._quotas.update_one({"_id": user_id}, {"$inc": {"asked": 1}}, upsert=True, session=session)

    def active(self, user_id: str, session: Session) -> int:
        query = {"user_id": user_id, "status": {"$in": SERVED}}
        return self._deployments.count_documents(query, session=session)
