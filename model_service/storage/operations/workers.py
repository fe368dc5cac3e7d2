"""The running workers.

RQ keeps such a list in Redis, but an idle worker reports to it only every few minutes, and a converting one
not at all.
"""

from model_service.storage.common.db import Database
from model_service.storage.operations.documents import WorkerProcess
from model_service.storage.operations.presence import ALIVE_S as ALIVE_S
from model_service.storage.operations.presence import Presence


class Workers(Presence[WorkerProcess]):
    def __init__(self, database: Database) -> None:
        super().__init__(database.workers)
