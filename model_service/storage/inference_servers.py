"""The inference servers that live, and what confines their model hosts."""

from model_service.storage.db import Database
from model_service.storage.presence import Presence


class InferenceServers(Presence):
    def __init__(self, database: Database) -> None:
        super().__init__(database.inference_servers)
