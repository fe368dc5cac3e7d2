"""The order of waiting evaluations, and the recovery of those of lost workers."""

from model_service.storage.common.db import Database
from model_service.storage.common.job_events import of_evaluations
from model_service.storage.common.job_turns import JobTurns
from model_service.storage.common.outbox import Outbox
from model_service.storage.evaluations.documents import Evaluation


class EvaluationTurns(JobTurns[Evaluation]):
    def __init__(self, database: Database, outbox: Outbox) -> None:
        super().__init__(database, database.evaluations, of_evaluations(outbox))
