"""The running inference servers, and the confinement of their model hosts."""

from model_service.storage.common.db import Database
from model_service.storage.operations.documents import InferenceServerProcess
from model_service.storage.operations.presence import Presence


class InferenceServers(Presence[InferenceServerProcess]):
    def __init__(self, database: Database) -> None:
        super().__init__(database.inference_servers)
