"""The export_jobs collection: the truth of every conversion.

A worker owns a running job by its lease: who, until when, and a token that is new with every claim. Each
write of a worker names the token, so that one whose lease was taken over can no longer change anything.
All times of a lease are the database's, so the workers' clocks need not agree.
"""

import uuid

from pymongo import ReturnDocument

from model_service.states import EXPORT_TRANSITIONS, ExportStatus
from model_service.storage.clock import from_now
from model_service.storage.db import Database, Document, Session, now
from model_service.storage.pages import page_of

LOG_LINES = 200


def _unowned(grace_s: float = 0) -> Document:
    """No lease, or one that ran out ``grace_s`` ago."""
    return {"$expr": {"$lt": ["$lease.expires_at", from_now(-grace_s)]}}  # a missing lease is less than any


def _may_become(status: ExportStatus) -> Document:
    sources = [source for source, targets in EXPORT_TRANSITIONS.items() if status in targets]
    return {"status": {"$in": sources}}


class Exports:
    def __init__(self, database: Database) -> None:
        self._jobs = database.export_jobs

    def insert(self, document: Document, session: Session) -> None:
        """Store a new job under the next version number of its model."""
        newest = self._jobs.find_one(
            {"model_id": document["model_id"]}, {"version": True}, sort=[("version", -1)], session=session
        )
        document["version"] = newest["version"] + 1 if newest else 1
        self._jobs.insert_one(document, session=session)

    def get(self, job_id: str, session: Session | None = None) -> Document | None:
        return self._jobs.find_one({"_id": job_id}, session=session)

    def page(self, query: Document, skip: int, limit: int) -> tuple[list[Document], int]:
        return page_of(self._jobs, query, skip, limit, fields={"log": False})

    def claim(self, job_id: str, *, worker: str, lease_s: float, max_attempts: int) -> Document | None:
        """Take a job that waits, or whose worker's lease ran out; None when it is not to be had."""
        claimable = {
            "_id": job_id,
            "attempts": {"$lt": max_attempts},
            **_may_become(ExportStatus.RUNNING),
            **_unowned(),
        }
        lease = {"worker": worker, "token": str(uuid.uuid4()), "expires_at": from_now(lease_s)}
        return self._jobs.find_one_and_update(
            claimable,
            [
                {
                    "$set": {
                        "status": ExportStatus.RUNNING,
                        "lease": lease,
                        "attempts": {"$add": ["$attempts", 1]},
                        "started_at": "$$NOW",
                        "updated_at": "$$NOW",
                        "progress_percent": 0.0,
                    }
                }
            ],
            return_document=ReturnDocument.AFTER,
        )

    def renew(self, job_id: str, token: str, lease_s: float) -> bool:
        """Hold on to the job; False when it is no longer ours."""
        renewed = self._jobs.update_one(
            _owned(job_id, token), [{"$set": {"lease.expires_at": from_now(lease_s)}}]
        )
        return renewed.matched_count == 1

    def report(self, job_id: str, token: str, *, percent: float, message: str) -> None:
        """Progress, shown and kept in the log."""
        self._jobs.update_one(
            _owned(job_id, token),
            {
                "$set": {"progress_percent": percent, "progress_message": message, "updated_at": now()},
                "$push": {"log": {"$each": [f"{now():%H:%M:%S} {message}"], "$slice": -LOG_LINES}},
            },
        )

    def complete(self, job_id: str, token: str, results: Document, session: Session) -> bool:
        """False when the job is no longer ours: nothing was changed."""
        at = now()
        done = {
            "status": ExportStatus.COMPLETED,
            "progress_percent": 100.0,
            "progress_message": "completed",
            "completed_at": at,
            "updated_at": at,
            **results,
        }
        changed = self._jobs.update_one(
            _owned(job_id, token, ExportStatus.COMPLETED),
            {"$set": done, "$unset": {"lease": ""}},
            session=session,
        )
        return changed.modified_count == 1

    def fail(
        self,
        job_id: str,
        token: str,
        *,
        code: str,
        message: str,
        session: Session,
        results: Document | None = None,
    ) -> bool:
        """False when the job is no longer ours: nothing was changed."""
        changed = self._jobs.update_one(
            _owned(job_id, token, ExportStatus.FAILED),
            {
                "$set": {**_failure(code, message), **(results or {})},
                "$unset": {"lease": ""},
                "$push": {"log": {"$each": [f"{now():%H:%M:%S} failed: {message}"], "$slice": -LOG_LINES}},
            },
            session=session,
        )
        return changed.modified_count == 1

    def hand_back(self, job_id: str, token: str) -> None:
        """An orderly stop of the worker is no failed try: the job waits again."""
        self._jobs.update_one(
            _owned(job_id, token, ExportStatus.PENDING),
            {"$set": {"status": ExportStatus.PENDING}, "$inc": {"attempts": -1}, "$unset": {"lease": ""}},
        )

    def waiting(self, max_attempts: int) -> list[str]:
        """Jobs that nobody works on and somebody may, oldest first."""
        query = {
            "attempts": {"$lt": max_attempts},
            **_may_become(ExportStatus.RUNNING),
            **_unowned(),
        }
        found = self._jobs.find(query, {"_id": True}, sort=[("created_at", 1)], limit=1000)
        return [job["_id"] for job in found]

    def exhausted(self, max_attempts: int, *, grace_s: float) -> list[Document]:
        """Jobs that have used up their tries, and whose last worker has been silent for ``grace_s`` too long.

        The grace lets a worker renew its lease first when it was the database that was away.
        """
        query = {
            "attempts": {"$gte": max_attempts},
            **_may_become(ExportStatus.RUNNING),
            **_unowned(grace_s),
        }
        return list(self._jobs.find(query, limit=1000))

    def give_up(self, job: Document, code: str, message: str, session: Session) -> bool:
        """Fail an exhausted job; False when it was taken up or renewed meanwhile."""
        unchanged = {"_id": job["_id"], "attempts": job["attempts"], "lease": job.get("lease")}
        changed = self._jobs.update_one(
            unchanged, {"$set": _failure(code, message), "$unset": {"lease": ""}}, session=session
        )
        return changed.modified_count == 1


def _failure(code: str, message: str) -> Document:
    at = now()
    return {
        "status": ExportStatus.FAILED,
        "error_code": code,
        "error_message": message,
        "completed_at": at,
        "updated_at": at,
    }


def _owned(job_id: str, token: str, to: ExportStatus = ExportStatus.RUNNING) -> Document:
    """The job, if this lease still holds it and its status may become ``to``."""
    return {"_id": job_id, "lease.token": token, **_may_become(to)}
