"""The number of a user's running and requested exports, counted in the jobs."""

from datetime import datetime, timedelta

from model_service.states import ExportStatus
from model_service.storage.common.db import Database, Session, now

DAY = timedelta(days=1)
_UNFINISHED = [status for status in ExportStatus if not status.final]


class ExportQuotas:
    def __init__(self, database: Database) -> None:
        self._jobs = database.export_jobs
        self._quotas = database.export_quotas

    def hold(self, user_id: str, session: Session) -> None:
        """Let one transaction at a time add an export of this user: a concurrent one is retried."""
        self._quotas.update_one({"_id": user_id}, {"$inc": {"asked": 1}}, upsert=True, session=session)

    def under_way(self, user_id: str, session: Session) -> int:
        query = {"user_id": user_id, "status": {"$in": _UNFINISHED}}
        return self._jobs.count_documents(query, session=session)

    def of_a_day(self, user_id: str, session: Session) -> tuple[int, datetime | None]:
        """Return the number of exports of the last 24 hours without reused ones, and the first one's time."""
        query = {"user_id": user_id, "created_at": {"$gt": now() - DAY}, "reused_from": None}
        count = self._jobs.count_documents(query, session=session)
        first = self._jobs.find_one(query, {"created_at": True}, sort=[("created_at", 1)], session=session)
        return count, first["created_at"] if first else None
