"""The targets that an export can be deployed to: the one explicit list."""

from collections.abc import Callable, Mapping

from model_service.config import Settings
from model_service.deployers.base import Deployer
from model_service.deployers.delivered import BuiltPackage, Download
from model_service.deployers.local import LocalPool
from model_service.states import DeploymentType
from model_service.storage.stores import Stores


def build_deployers(
    settings: Settings, stores: Stores, enqueue: Callable[[str], None]
) -> Mapping[DeploymentType, Deployer]:
    """Return the target of each deployment type.

    Args:
        enqueue: called with the id of a deployment whose package a worker must build.
    """
    deployers: list[Deployer] = [
        LocalPool(stores, settings),
        Download(stores),
        BuiltPackage(DeploymentType.EDGE_PACKAGE, stores, enqueue),
        BuiltPackage(DeploymentType.CONTAINER, stores, enqueue),
    ]
    return {deployer.type: deployer for deployer in deployers}
