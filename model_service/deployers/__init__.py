"""The targets a package can be deployed to: the one explicit list."""

from model_service.config import Settings
from model_service.deployers.base import Deployer
from model_service.deployers.local import LocalPool
from model_service.states import DeploymentType

_DEPLOYERS = (LocalPool,)

AVAILABLE = tuple(deployer.type for deployer in _DEPLOYERS)


def deployer_for(deployment_type: DeploymentType, settings: Settings) -> Deployer:
    """Raises: KeyError: nothing deploys to that type; ``AVAILABLE`` says what can be had."""
    return {deployer.type: deployer for deployer in _DEPLOYERS}[deployment_type](settings)
