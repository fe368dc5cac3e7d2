"""The local pool: inference servers that host platform endpoints.

The servers watch the deployments in MongoDB. They load a pending one, warm it up, compare it with its golden
outputs, and make it active; they follow its revisions and its number of replicas, and drop it when it is
deleted. The stored deployment is all that the pool needs, so nothing has to be called.
"""

from model_service.config import Settings
from model_service.deployers.recorded import Recorded
from model_service.states import DeploymentType
from model_service.storage.deployments.documents import Deployment
from model_service.storage.stores import Stores


class LocalPool(Recorded):
    type = DeploymentType.PLATFORM_ENDPOINT
    has_endpoint = True

    def __init__(self, stores: Stores, settings: Settings) -> None:
        super().__init__(stores)
        self._settings = settings

    def create(self, deployment: Deployment) -> None:
        pass

    def update(self, deployment: Deployment) -> None:
        pass

    def scale(self, deployment: Deployment) -> None:
        pass

    def delete(self, deployment_id: str) -> None:
        pass

    def endpoint_url(self, deployment_id: str, registry_url: str) -> str | None:
        return f"{self._settings.inference_address(registry_url)}/v1/infer/{deployment_id}"
