"""The client class, which combines all groups of calls."""

from typing import Self

from model_service.client.aliases import AliasCalls
from model_service.client.datasets import DatasetCalls
from model_service.client.deployment_keys import DeploymentKeyCalls
from model_service.client.evaluations import EvaluationCalls
from model_service.client.exports import ExportCalls
from model_service.client.files import FileCalls
from model_service.client.gates import GateCalls
from model_service.client.inference.predict import PredictCalls
from model_service.client.keys import KeyCalls
from model_service.client.models import ModelCalls
from model_service.client.registry import RegistryCalls
from model_service.client.search import SearchCalls
from model_service.client.training import TrainingCalls
from model_service.client.transport.http import Transport
from model_service.client.transport.progress import MakeBar
from model_service.client.transport.retries import LONGEST_WAIT_S
from model_service.client.users import UserCalls
from model_service.client.webhooks import WebhookCalls


class ModelServiceClient(
    ModelCalls,
    SearchCalls,
    AliasCalls,
    GateCalls,
    FileCalls,
    DatasetCalls,
    TrainingCalls,
    ExportCalls,
    EvaluationCalls,
    DeploymentKeyCalls,
    PredictCalls,
    RegistryCalls,
    UserCalls,
    KeyCalls,
    WebhookCalls,
):
    """A client of one service. Threads may share it; close it, or use it as a context manager.

    ``api_key`` is the service's key, one of ``create_key``, or a session's token; ``login`` replaces it.
    ``timeout`` is in seconds and limits each silence of the service, not a whole transfer. ``progress``: True
    for rich's bars on stderr, False for none, None for bars on a terminal, or a ``MakeBar``. ``longest_wait``
    is in seconds and limits how long one call waits for the service's limits (429 with Retry-After); a longer
    wait raises TooManyRequests. Waits are logged as warnings of the logger ``model_service.client``.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8084",
        api_key: str | None = None,
        timeout: float = 30,
        progress: bool | MakeBar | None = None,
        longest_wait: float = LONGEST_WAIT_S,
    ) -> None:
        """Raises InvalidArgument if ``base_url`` is not an http(s) address. Sends nothing."""
        transport = Transport(base_url, api_key=api_key, timeout_s=timeout, longest_wait_s=longest_wait)
        super().__init__(transport, progress)

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
