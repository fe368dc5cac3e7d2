"""Where a package can run."""

from typing import Protocol

from model_service.states import DeploymentType


class Deployer(Protocol):
    """One kind of target."""

    type: DeploymentType

    def endpoint_url(self, deployment_id: str, registry_url: str) -> str:
        """The address of the deployment's endpoint, once it is active.

        Args:
            registry_url: the registry's address as the client knows it.
        """
        ...
