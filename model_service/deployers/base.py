"""Where a deployment runs, or is delivered to: the protocol of all targets.

A target makes true what a stored deployment describes. The registry stores the deployment first and then
calls the target, so every call can be repeated: after a lost response, after a crash, or by the workers'
reconciler, which calls ``update`` for packages that are not live yet. No call waits until the target has
finished.
"""

from dataclasses import dataclass
from typing import Protocol

from model_service.states import DeploymentStatus, DeploymentType
from model_service.storage.deployments.documents import Deployment, DeploymentEvent, DeploymentLogEntry


@dataclass(frozen=True)
class TargetStatus:
    """The state of a deployment at its target.

    Args:
        live_revision: the revision that the target serves or offers; None: none yet.
        message: why the newest revision failed.
    """

    status: DeploymentStatus
    live_revision: int | None = None
    message: str | None = None


class Deployer(Protocol):
    """One kind of target. ``tests/deployers`` has the behaviour that every target must have.

    ``has_endpoint``: the target runs the model. Its deployments then have an endpoint, keys and replicas, and
    need verified exports.
    """

    type: DeploymentType
    has_endpoint: bool

    def create(self, deployment: Deployment) -> None:
        """Start a stored deployment. One that exists at the target is treated as in ``update``."""
        ...

    def update(self, deployment: Deployment) -> None:
        """Make the newest revision live, or stop an inactive deployment. The previous revision stays live
        until the target has the new one. Changes nothing if the target is there already.
        """
        ...

    def scale(self, deployment: Deployment) -> None:
        """Have as many replicas as ``config.auto_scaling`` says; the target may reach that later.

        Only called if the target has endpoints.
        """
        ...

    def status(self, deployment_id: str) -> TargetStatus | None:
        """Read the state at the target; None: the target does not have the deployment."""
        ...

    def logs(self, deployment_id: str, level: str | None, limit: int) -> list[DeploymentLogEntry]:
        """Return log entries of this severity or higher, newest first; None: of every level."""
        ...

    def events(
        self, deployment_id: str, event: str | None, skip: int, limit: int
    ) -> tuple[list[DeploymentEvent], int]:
        """Return a page of events, newest first, and their total number."""
        ...

    def delete(self, deployment_id: str) -> None:
        """Remove everything that the target has of the deployment; nothing is left, also nothing half-made.

        Called before the registry deletes the deployment, so that a failure can be repeated.
        """
        ...

    def endpoint_url(self, deployment_id: str, registry_url: str) -> str | None:
        """Return the URL of the deployment's endpoint, once it is active; None: there is no endpoint.

        Args:
            registry_url: the registry's URL as the client knows it.
        """
        ...
