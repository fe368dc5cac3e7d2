"""The workers that live.

RQ keeps such a list in Redis, but hears from an idle worker only every few minutes, and from one that
converts not at all.
"""

from model_service.storage.common.db import Database
from model_service.storage.operations.presence import ALIVE_S as ALIVE_S
from model_service.storage.operations.presence import Presence


class Workers(Presence):
    def __init__(self, database: Database) -> None:
        super().__init__(database.workers)
