"""The order of waiting jobs, their number, and the recovery of jobs from lost workers."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic

from pymongo.collection import Collection
from typing_extensions import TypedDict

from model_service.metrics import LEASES_LOST
from model_service.states import JobStatus
from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.common.job_events import JobEvents
from model_service.storage.common.leased_jobs import (
    J,
    claimable,
    failure,
    logged,
    may_become,
    move,
    unowned,
    unread,
)

_TURNS = 200  # number of recent job starts that determine whose turn it is
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_LOST = "its worker was lost; waiting for another worker"


class _FirstOfUser(TypedDict):
    _id: str
    job_id: str
    since: datetime


class _Group(TypedDict):
    count: int
    age_ms: int


@dataclass(frozen=True)
class Backlog:
    """The number of jobs with a status, and the age of the oldest one in seconds, 0 without a job."""

    count: int = 0
    oldest_s: float = 0.0


class JobTurns(Generic[J]):
    """The jobs of one collection. ``events``: None if no webhook gets their transitions."""

    def __init__(self, database: Database, jobs: Collection[J], events: JobEvents | None) -> None:
        self._db = database
        self._jobs = jobs
        self._events = events

    def waiting(self, max_attempts: int) -> list[str]:
        """Return the jobs without a worker that have attempts left, oldest first."""
        found = self._jobs.find(claimable(max_attempts), {"_id": True}, sort=[("created_at", 1)], limit=1000)
        return [job["_id"] for job in found]

    def backlog(self) -> tuple[Backlog, Backlog]:
        """Return the waiting jobs (age since creation) and the running ones (age since their start)."""
        return (
            self._count(JobStatus.PENDING, "created_at"),
            self._count(JobStatus.RUNNING, "started_at"),
        )

    def _count(self, status: JobStatus, since: str) -> Backlog:
        grouped = {"_id": None, "count": {"$sum": 1}, "first": {"$min": f"${since}"}}
        age = {"count": True, "age_ms": {"$subtract": ["$$NOW", "$first"]}}
        found = self._jobs.aggregate([{"$match": {"status": status}}, {"$group": grouped}, {"$project": age}])
        for group in rows(found, _Group):
            return Backlog(group["count"], max(0.0, group["age_ms"] / 1000))
        return Backlog()

    def next_in_turn(self, max_attempts: int, hardware: str | None = None) -> str | None:
        """Return the next job: the oldest waiting one of the user whose last job started longest ago.

        Jobs for other ``hardware`` than the worker's are left out.
        """
        for_worker = {**claimable(max_attempts), "hardware": {"$in": [None, hardware]}}
        first_of = {
            "$group": {"_id": "$user_id", "job_id": {"$first": "$_id"}, "since": {"$first": "$created_at"}}
        }
        found = self._jobs.aggregate([{"$match": for_worker}, {"$sort": {"created_at": 1}}, first_of])
        by_user = list(rows(found, _FirstOfUser))
        if len(by_user) < 2:
            return by_user[0]["job_id"] if by_user else None
        started = self._jobs.find(
            {"started_at": {"$gt": _LONG_AGO}}, {"user_id": True}, sort=[("started_at", -1)], limit=_TURNS
        )
        ago: dict[str, int] = {}
        for number, job in enumerate(started):
            ago.setdefault(job["user_id"], number)
        chosen = min(by_user, key=lambda user: (-ago.get(user["_id"], _TURNS), user["since"]))
        return str(chosen["job_id"])

    def take_from_lost_workers(self, max_attempts: int, *, spared: str, grace_s: float) -> None:
        """Return jobs to waiting if their lease expired more than ``grace_s`` ago, and log it.

        An attempt that has not read the model is not counted.

        ``spared`` is the calling worker. It knows which jobs it runs; its lease may only wait for MongoDB.
        """
        lost = {"status": JobStatus.RUNNING, "worker": {"$ne": spared}, **unowned(grace_s)}
        waits = {
            "status": JobStatus.PENDING,
            "progress_percent": 0.0,
            "progress_message": _LOST,
            "updated_at": now(),
        }
        line = logged(_LOST)
        change = {"$set": waits, "$unset": {"lease": ""}, **line}
        uncounted = {**change, "$inc": {**line["$inc"], "attempts": -1, "unread_tries": 1}}
        LEASES_LOST.inc(self._take(lost | unread(), uncounted))
        LEASES_LOST.inc(self._take(lost | {"attempts": {"$lt": max_attempts}}, change))

    def _take(self, query: Fields, change: Fields) -> int:
        """Return the matching jobs to waiting, each in its own transaction. Returns their number."""

        def take(job_id: str) -> bool:
            one, to = {**query, "_id": job_id}, JobStatus.PENDING
            return self._db.transaction(
                lambda session: move(self._jobs, self._events, one, change, to, session)
            )

        return sum(take(job["_id"]) for job in self._jobs.find(query, {"_id": True}))

    def exhausted(self, max_attempts: int, *, grace_s: float) -> list[J]:
        """Return jobs without attempts left whose last lease expired more than ``grace_s`` ago.

        The grace lets a worker renew its lease first after an outage of the database.
        """
        query = {
            "attempts": {"$gte": max_attempts},
            **may_become(JobStatus.RUNNING),
            **unowned(grace_s),
        }
        return list(self._jobs.find(query, limit=1000))

    def give_up(self, job: J, code: str, message: str, session: Session) -> bool:
        """Fail an exhausted job. Returns False if it was claimed or renewed meanwhile."""
        unchanged = {"_id": job["_id"], "attempts": job["attempts"], "lease": job.get("lease")}
        change = {"$set": failure(code, message), "$unset": {"lease": ""}, **logged(f"failed: {message}")}
        failed = JobStatus.FAILED
        return move(self._jobs, self._events, unchanged, change, failed, session, error_code=code)
