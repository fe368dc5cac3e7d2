"""The limit of a user's active deployments, by the owner's tier."""

from model_service.errors import DeploymentLimitReached
from model_service.storage.common.db import Session
from model_service.storage.stores import Stores
from model_service.tiers import Tiers


class DeploymentLimits:
    def __init__(self, stores: Stores, tiers: Tiers) -> None:
        self._quotas = stores.deployment_quotas
        self._users = stores.users
        self._tiers = tiers

    def check(self, owner: str, session: Session) -> None:
        """Check the owner's limit, in the transaction that adds an active deployment and before the write.

        Raises:
            DeploymentLimitReached: the owner has as many active deployments as their tier allows.
        """
        tier = self._tiers.of_user(owner, self._users.get(owner))
        allowed = self._tiers.of(tier).deployments
        if tier is None or allowed is None:
            return
        self._quotas.hold(owner, session)
        active = self._quotas.active(owner, session)
        if active >= allowed:
            raise DeploymentLimitReached(owner, tier, allowed, active)
