"""Calls on endpoint keys, the keys of a deployment."""

from datetime import datetime
from typing import Any

from model_service.client.calls import Calls
from model_service.client.deployment_types import DeploymentKey
from model_service.client.deployments import deployment_url
from model_service.client.transport.http import segment


class DeploymentKeyCalls(Calls):
    def create_deployment_key(
        self, deployment_id: str, name: str, *, expires_at: datetime | None = None
    ) -> DeploymentKey:
        """Create an endpoint key. Its text, ``key``, is returned only here: store it.

        Args:
            expires_at: with its time zone; by default the key does not expire.
        """
        data = {"name": name} | ({} if expires_at is None else {"expires_at": expires_at.isoformat()})
        return DeploymentKey.from_json(self._transport.create(_url(deployment_id), data))

    def list_deployment_keys(self, deployment_id: str) -> tuple[DeploymentKey, ...]:
        """Return all keys, without their texts."""
        answer = self._transport.json("GET", _url(deployment_id))
        return tuple(DeploymentKey.from_json(each) for each in answer.get("keys", ()))

    def rotate_deployment_key(self, deployment_id: str, key_id: str, *, grace_s: int = 0) -> DeploymentKey:
        """Replace a key. The new text is returned only here; the old key works ``grace_s`` seconds longer."""
        url = f"{_url(deployment_id)}/{segment(key_id)}/rotate"
        return DeploymentKey.from_json(self._transport.create(url, {"grace_s": grace_s}))

    def revoke_deployment_key(self, deployment_id: str, key_id: str) -> dict[str, Any]:
        """Revoke a key. NotFound may mean that an earlier try, whose response was lost, revoked it."""
        return self._transport.json("DELETE", f"{_url(deployment_id)}/{segment(key_id)}")


def _url(deployment_id: str) -> str:
    return f"{deployment_url(deployment_id)}/keys"
