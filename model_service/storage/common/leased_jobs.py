"""The state of jobs that workers run under a lease: exports and evaluations.

A worker owns a running job by its lease: worker, expiry, and a token that is new in every claim. Every write
of a worker includes the token, so a worker whose lease was taken over cannot change anything. All times of a
lease are by the database's clock, so the workers' clocks need not agree.
"""

import uuid
from typing import Generic, TypeVar

from pymongo import ReturnDocument
from pymongo.collection import Collection

from model_service.metrics import LEASES_LOST
from model_service.states import JOB_TRANSITIONS, JobStatus
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import BlobReference, Fields, LeasedJob
from model_service.storage.common.job_events import READ, JobEvents

J = TypeVar("J", bound=LeasedJob)

LOG_LINES = 200
# An attempt that ends in one of these steps has not read the model, which cannot have killed the worker.
_UNREAD_STEPS = ["fetch", "start"]
_MOST_UNREAD = 10
PROGRESS = (
    *("status", "progress_percent", "progress_message", "progress_step"),
    *("log", "log_count", "error_code", "error_message"),
)


def unowned(grace_s: float = 0) -> dict[str, object]:
    """Return the filter for jobs without a lease, or whose lease expired ``grace_s`` ago."""
    return {"$expr": {"$lt": ["$lease.expires_at", from_now(-grace_s)]}}  # a missing lease compares as less


def may_become(status: JobStatus) -> dict[str, object]:
    sources = [source for source, targets in JOB_TRANSITIONS.items() if status in targets]
    return {"status": {"$in": sources}}


def claimable(max_attempts: int) -> dict[str, object]:
    """Return the filter for jobs without a worker that have attempts left."""
    return {"attempts": {"$lt": max_attempts}, **may_become(JobStatus.RUNNING), **unowned()}


def unread() -> dict[str, object]:
    """Return the filter for running jobs whose attempt has not read the model and is not counted yet."""
    return {
        "status": JobStatus.RUNNING,
        "progress_step": {"$in": _UNREAD_STEPS},
        "unread_tries": {"$not": {"$gte": _MOST_UNREAD}},
    }


def _if_unread(then: int, otherwise: int) -> Fields:
    """Return ``unread`` as an expression on the document."""
    conditions = [
        {"$eq": ["$status", JobStatus.RUNNING]},
        {"$in": ["$progress_step", _UNREAD_STEPS]},
        {"$lt": [{"$ifNull": ["$unread_tries", 0]}, _MOST_UNREAD]},
    ]
    return {"$cond": [{"$and": conditions}, then, otherwise]}


class LeasedJobs(Generic[J]):
    """The jobs of one collection. ``events``: None if no webhook gets their transitions."""

    def __init__(self, database: Database, jobs: Collection[J], events: JobEvents | None) -> None:
        self._db = database
        self._jobs = jobs
        self._events = events

    def get(self, job_id: str, session: Session | None = None) -> J | None:
        return self._jobs.find_one({"_id": job_id}, session=session)

    def progress(self, job_id: str) -> J | None:
        """Return the fields that change while a job runs, and its log."""
        fields = dict.fromkeys(PROGRESS, True)
        return self._jobs.find_one({"_id": job_id}, fields)

    def claim(self, job_id: str, *, worker: str, lease_s: float, max_attempts: int) -> J | None:
        """Claim a job that waits, or whose worker's lease has expired; None if it cannot be claimed.

        An attempt that lost its worker before it read the model is not counted, at most
        ``_MOST_UNREAD`` times.
        """
        lease = {"worker": worker, "token": str(uuid.uuid4()), "expires_at": from_now(lease_s)}
        taken = {
            "status": JobStatus.RUNNING,
            "lease": lease,
            "worker": worker,
            "attempts": {"$add": ["$attempts", _if_unread(0, 1)]},
            "unread_tries": {"$add": [{"$ifNull": ["$unread_tries", 0]}, _if_unread(1, 0)]},
            "started_at": "$$NOW",
            "updated_at": "$$NOW",
            "progress_percent": 0.0,
            "progress_step": _UNREAD_STEPS[0],
        }

        def take(before: JobStatus, session: Session) -> J | None:
            job = self._jobs.find_one_and_update(
                {"_id": job_id, **claimable(max_attempts), "status": before},
                [{"$set": taken}],
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            if job is not None:
                self._record(job, before, JobStatus.RUNNING, session)
            return job

        job = self._db.transaction(lambda session: take(JobStatus.PENDING, session))
        if job is None:
            job = self._db.transaction(lambda session: take(JobStatus.RUNNING, session))
            if job is not None:  # the lease of another worker has expired
                LEASES_LOST.inc()
        return job

    def renew(self, job_id: str, token: str, lease_s: float) -> bool:
        """Renew the lease. Returns False if another worker has the job."""
        renewed = self._jobs.update_one(
            _owned(job_id, token), [{"$set": {"lease.expires_at": from_now(lease_s)}}]
        )
        return renewed.matched_count == 1

    def report(self, job_id: str, token: str, *, percent: float, message: str, **fields: object) -> None:
        """Store the progress, add it to the log, and set further fields that are known by then."""
        shown = {"progress_percent": percent, "progress_message": message, "updated_at": now(), **fields}
        self._jobs.update_one(_owned(job_id, token), {"$set": shown, **logged(message)})

    def set_training_state(self, job_id: str, token: str, state: BlobReference, session: Session) -> J | None:
        """Store the state of a training. Returns the job before; None if the lease is lost."""
        stored = {"$set": {"training_state": state}}
        return self._jobs.find_one_and_update(_owned(job_id, token), stored, session=session)

    def complete(self, job_id: str, token: str, results: Fields, session: Session) -> bool:
        """Complete the job. Returns False if the lease is lost; nothing was changed then."""
        at = now()
        done = {
            "status": JobStatus.COMPLETED,
            "progress_percent": 100.0,
            "progress_message": "completed",
            "completed_at": at,
            "updated_at": at,
            **results,
        }
        change = {"$set": done, "$unset": {"lease": ""}, **logged("completed")}
        return self._move(_owned(job_id, token, JobStatus.COMPLETED), change, JobStatus.COMPLETED, session)

    def fail(
        self,
        job_id: str,
        token: str,
        *,
        code: str,
        message: str,
        session: Session,
        results: Fields | None = None,
    ) -> bool:
        """Mark the job as failed. Returns False if the lease is lost; nothing was changed then."""
        change = {
            "$set": {**failure(code, message), **(results or {})},
            "$unset": {"lease": ""},
            **logged(f"failed: {message}"),
        }
        failed = JobStatus.FAILED
        return self._move(_owned(job_id, token, failed), change, failed, session, error_code=code)

    def cancel(self, job_id: str, by: str, session: Session) -> J | None:
        """Cancel an unfinished job; None if it has ended. Its worker notices at its lease, and stops."""
        at = now()
        ended = {
            "status": JobStatus.CANCELLED,
            "progress_message": "cancelled",
            "completed_at": at,
            "updated_at": at,
        }
        change = {"$set": ended, "$unset": {"lease": ""}, **logged(f"cancelled by {by}")}
        cancellable = {"_id": job_id, **may_become(JobStatus.CANCELLED)}
        if not self._move(cancellable, change, JobStatus.CANCELLED, session):
            return None
        return self.get(job_id, session)

    def hand_back(self, job_id: str, token: str, *, failed: str | None = None) -> None:
        """Return the job to waiting.

        Args:
            failed: the line for the job's log on a failed attempt. None: an orderly stop, whose attempt does
                not count.
        """
        noted = {"$inc": {"attempts": -1}} if failed is None else logged(failed)
        change = {"$set": {"status": JobStatus.PENDING}, "$unset": {"lease": ""}, **noted}
        owned = _owned(job_id, token, JobStatus.PENDING)
        self._db.transaction(lambda session: self._move(owned, change, JobStatus.PENDING, session))

    def _record(self, job: J, before: str | None, after: str, session: Session) -> None:
        if self._events is not None:
            self._events.record(job, before, after, session)

    def _move(
        self, query: Fields, change: Fields, to: JobStatus, session: Session, *, error_code: str | None = None
    ) -> bool:
        """Change the status of the matching job. Returns whether there is one."""
        return move(self._jobs, self._events, query, change, to, session, error_code=error_code)


def move(
    jobs: Collection[J],
    events: JobEvents | None,
    query: Fields,
    change: Fields,
    to: JobStatus,
    session: Session,
    *,
    error_code: str | None = None,
) -> bool:
    """Change the status of the matching job, and record it for webhooks. Returns whether there is one."""
    before = jobs.find_one_and_update(query, change, READ, session=session)
    if before is not None and events is not None:
        events.record(before, before["status"], to, session, error_code=error_code)
    return before is not None


def failure(code: str, message: str) -> Fields:
    at = now()
    return {
        "status": JobStatus.FAILED,
        "error_code": code,
        "error_message": message,
        "completed_at": at,
        "updated_at": at,
    }


def logged(line: str) -> dict[str, Fields]:
    """Return the update that appends a line to the log. ``log_count`` includes lines no longer kept."""
    stamped = f"{now():%H:%M:%S} {line}"
    return {
        "$push": {"log": {"$each": [stamped], "$slice": -LOG_LINES}},
        "$inc": {"log_count": 1},
    }


def _owned(job_id: str, token: str, to: JobStatus = JobStatus.RUNNING) -> Fields:
    """Return the filter for the job if this lease holds it and its status may become ``to``."""
    return {"_id": job_id, "lease.token": token, **may_become(to)}
