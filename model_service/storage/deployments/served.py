"""The deployments for inference servers, whose processes read them twice a second."""

from datetime import timedelta

from model_service.states import SERVED, DeploymentType, Tier
from model_service.storage.common.collections import projected
from model_service.storage.common.db import Database, now
from model_service.storage.common.documents import Fields
from model_service.storage.deployments.documents import Deployment, ServedDeployment, ServedKey

_WANTED: dict[str, object] = {
    "status": {"$in": SERVED},
    "deployment_type": DeploymentType.PLATFORM_ENDPOINT,
}
# Every change that matters to a server changes one of these.
_MARKS = ("status", "revision", "live_revision", "updated_at", "load_attempts")
# Two changes within a millisecond have the same marks, so a document changed recently is read again.
_SETTLED = timedelta(seconds=1)


class ServedDeployments:
    """Reads a whole deployment only if it has changed since the last read."""

    def __init__(self, database: Database) -> None:
        self._deployments = database.deployments
        self._keys = database.api_keys
        self._users = database.users
        # By id. Documents that changed too recently to be reused are left out.
        self._known: dict[str, Deployment] = {}

    def read(self) -> list[ServedDeployment]:
        """Return each with ``keys``, {_id, deployment_id, sha256, expires_at}, and ``owner_tier`` or None.

        Keys and tiers are read each time, so that their changes need no mark in the deployment.
        """
        settled = now() - _SETTLED
        marks = {mark["_id"]: mark for mark in self._deployments.find(_WANTED, _MARKS)}
        known = {key: self._known[key] for key, mark in marks.items() if _mark(self._known.get(key)) == mark}
        known |= {each["_id"]: each for each in self._whole([key for key in marks if key not in known])}
        self._known = {key: each for key, each in known.items() if each["updated_at"] < settled}
        deployments = [known[key] for key in marks if key in known]  # always in the same order
        keys = self._keys_of(list(known))
        tiers = self._tiers_of({each["user_id"] for each in deployments})
        return [
            {**each, "keys": keys[each["_id"]], "owner_tier": tiers.get(each["user_id"])}
            for each in deployments
        ]

    def _whole(self, ids: list[str]) -> list[Deployment]:
        wanted = _WANTED | {"_id": {"$in": ids}}
        return list(self._deployments.find(wanted, {"usage_flushes": False})) if ids else []

    def _keys_of(self, ids: list[str]) -> dict[str, list[ServedKey]]:
        found: dict[str, list[ServedKey]] = {deployment_id: [] for deployment_id in ids}
        if ids:
            fields = ("deployment_id", "sha256", "expires_at")
            for key in projected(self._keys.find({"deployment_id": {"$in": ids}}, fields), ServedKey):
                found[key["deployment_id"]].append(key)
        return found

    def _tiers_of(self, owners: set[str]) -> dict[str, Tier | None]:
        if not owners:
            return {}
        found = self._users.find({"_id": {"$in": list(owners)}}, ("tier",))
        return {user["_id"]: Tier(tier) if (tier := user.get("tier")) else None for user in found}


def _mark(deployment: Fields | None) -> Fields:
    return {name: deployment[name] for name in ("_id", *_MARKS) if name in deployment} if deployment else {}
