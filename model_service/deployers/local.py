"""The local pool: inference servers that host every platform endpoint.

They watch the deployments in MongoDB. A pending one is loaded, warmed up and compared with its golden
outputs, and then made active by the server itself, so nothing has to be started here.
"""

from model_service.config import Settings
from model_service.states import DeploymentType


class LocalPool:
    type = DeploymentType.PLATFORM_ENDPOINT

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def endpoint_url(self, deployment_id: str, registry_url: str) -> str:
        return f"{self._settings.inference_address(registry_url)}/v1/infer/{deployment_id}"
