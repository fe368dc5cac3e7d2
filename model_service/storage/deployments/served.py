"""The deployments that an inference server is to host, as each of its processes asks twice a second."""

from datetime import timedelta

from model_service.states import SERVED, DeploymentType
from model_service.storage.common.db import Database, Document, now

_WANTED: Document = {
    "status": {"$in": SERVED},
    "deployment_type": DeploymentType.PLATFORM_ENDPOINT,
}
# Whatever changes what a server does with a deployment changes one of these.
_MARKS = ("status", "revision", "live_revision", "updated_at", "load_attempts")
# Two changes within a millisecond have the same marks: what was read so soon after one is read again.
_SETTLED = timedelta(seconds=1)


class ServedDeployments:
    """Reads a deployment whole only when it has changed since it was read last."""

    def __init__(self, database: Database) -> None:
        self._deployments = database.deployments
        self._keys = database.api_keys
        self._users = database.users
        # By id. Not those that are too young to be believed the next time.
        self._known: dict[str, Document] = {}

    def read(self) -> list[Document]:
        """Each with its ``keys``, {_id, deployment_id, sha256, expires_at}, and its ``owner_tier`` or None.

        Keys and tiers are read each time: no change of them has to be noted in the deployment.
        """
        settled = now() - _SETTLED
        marks = {mark["_id"]: mark for mark in self._deployments.find(_WANTED, _MARKS)}
        known = {key: self._known[key] for key, mark in marks.items() if _mark(self._known.get(key)) == mark}
        known |= {each["_id"]: each for each in self._whole([key for key in marks if key not in known])}
        self._known = {key: each for key, each in known.items() if each["updated_at"] < settled}
        deployments = [known[key] for key in marks if key in known]  # in one order, whatever has changed
        keys = self._keys_of(list(known))
        tiers = self._tiers_of({each["user_id"] for each in deployments})
        return [
            each | {"keys": keys[each["_id"]], "owner_tier": tiers.get(each["user_id"])}
            for each in deployments
        ]

    def _whole(self, ids: list[str]) -> list[Document]:
        wanted = _WANTED | {"_id": {"$in": ids}}
        return list(self._deployments.find(wanted, {"usage_flushes": False})) if ids else []

    def _keys_of(self, ids: list[str]) -> dict[str, list[Document]]:
        found: dict[str, list[Document]] = {deployment_id: [] for deployment_id in ids}
        if ids:
            fields = ("deployment_id", "sha256", "expires_at")
            for key in self._keys.find({"deployment_id": {"$in": ids}}, fields):
                found[key["deployment_id"]].append(key)
        return found

    def _tiers_of(self, owners: set[str]) -> dict[str, str | None]:
        if not owners:
            return {}
        found = self._users.find({"_id": {"$in": list(owners)}}, ("tier",))
        return {user["_id"]: user.get("tier") for user in found}


def _mark(deployment: Document | None) -> Document:
    return {name: deployment[name] for name in ("_id", *_MARKS) if name in deployment} if deployment else {}
