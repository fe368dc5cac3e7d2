"""The order of waiting export jobs, their number, and the recovery of jobs from lost workers."""

from model_service.storage.common.db import Database
from model_service.storage.common.job_events import of_exports
from model_service.storage.common.job_turns import JobTurns
from model_service.storage.common.outbox import Outbox
from model_service.storage.exports.documents import ExportJob


class ExportTurns(JobTurns[ExportJob]):
    def __init__(self, database: Database, outbox: Outbox) -> None:
        super().__init__(database, database.export_jobs, of_exports(outbox))
