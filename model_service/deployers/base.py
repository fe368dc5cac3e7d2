"""Where a package can run."""

from typing import Protocol

from model_service.states import DeploymentType


class Deployer(Protocol):
    """One kind of target."""

    type: DeploymentType

    def endpoint_url(self, deployment_id: str) -> str:
        """Where requests go once the deployment is active."""
        ...
