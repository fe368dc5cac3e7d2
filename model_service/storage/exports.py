"""The export_jobs collection: the truth of every conversion.

A worker owns a running job by its lease: who, until when, and a token that is new with every claim. Each
write of a worker names the token, so that one whose lease was taken over can no longer change anything.
All times of a lease are the database's, so the workers' clocks need not agree.
"""

import uuid

from pymongo import ReturnDocument

from model_service.states import ExportStatus
from model_service.storage.blobs import Blob
from model_service.storage.db import Database, Document, Session, now

_EXPIRED = {"$expr": {"$lt": ["$lease.expires_at", "$$NOW"]}}
LOG_LINES = 200


def _from_now(seconds: float) -> Document:
    return {"$add": ["$$NOW", round(seconds * 1000)]}


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
        found = self._jobs.find(query, {"log": False}, sort=[("created_at", -1), ("_id", -1)])
        return list(found.skip(skip).limit(limit)), self._jobs.count_documents(query)

    def claim(self, job_id: str, *, worker: str, lease_s: float, max_attempts: int) -> Document | None:
        """Take a job that waits, or whose worker's lease ran out; None when it is not to be had."""
        claimable = {
            "_id": job_id,
            "attempts": {"$lt": max_attempts},
            "$or": [
                {"status": ExportStatus.PENDING},
                {"status": ExportStatus.RUNNING, **_EXPIRED},
            ],
        }
        lease = {"worker": worker, "token": str(uuid.uuid4()), "expires_at": _from_now(lease_s)}
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
            _owned(job_id, token), [{"$set": {"lease.expires_at": _from_now(lease_s)}}]
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

    def complete(self, job_id: str, token: str, package: Blob, results: Document, session: Session) -> bool:
        """False when the job is no longer ours: nothing was changed."""
        at = now()
        done = {
            "status": ExportStatus.COMPLETED,
            "progress_percent": 100.0,
            "progress_message": "completed",
            "package": package.reference(),
            "completed_at": at,
            "updated_at": at,
            **results,
        }
        changed = self._jobs.update_one(
            _owned(job_id, token), {"$set": done, "$unset": {"lease": ""}}, session=session
        )
        return changed.modified_count == 1

    def fail(
        self,
        job_id: str,
        token: str,
        *,
        code: str,
        message: str,
        results: Document | None = None,
        package: Blob | None = None,
        session: Session | None = None,
    ) -> bool:
        """False when the job is no longer ours. ``package`` is kept for diagnosis."""
        at = now()
        failed = {
            "status": ExportStatus.FAILED,
            "error_code": code,
            "error_message": message,
            "completed_at": at,
            "updated_at": at,
            **(results or {}),
        }
        if package is not None:
            failed["package"] = package.reference()
        changed = self._jobs.update_one(
            _owned(job_id, token),
            {
                "$set": failed,
                "$unset": {"lease": ""},
                "$push": {"log": {"$each": [f"{at:%H:%M:%S} failed: {message}"], "$slice": -LOG_LINES}},
            },
            session=session,
        )
        return changed.modified_count == 1

    def hand_back(self, job_id: str, token: str) -> None:
        """An orderly stop of the worker is no failed try: the job waits again."""
        self._jobs.update_one(
            _owned(job_id, token),
            {"$set": {"status": ExportStatus.PENDING}, "$inc": {"attempts": -1}, "$unset": {"lease": ""}},
        )

    def waiting(self) -> list[str]:
        """Jobs that nobody works on: pending, or with a lease that ran out."""
        query = {
            "$or": [{"status": ExportStatus.PENDING}, {"status": ExportStatus.RUNNING, **_EXPIRED}],
        }
        return [
            job["_id"] for job in self._jobs.find(query, {"_id": True}, sort=[("created_at", 1)], limit=1000)
        ]

    def give_up(self, max_attempts: int) -> int:
        """Fail what has used up its tries and lost its worker again; how many."""
        message = (
            f"The worker was lost {max_attempts} times while it converted this model. It may need more memory"
            " than EXPORT_MEMORY or the machine allows; see the job's log."
        )
        given_up = self._jobs.update_many(
            {"status": ExportStatus.RUNNING, "attempts": {"$gte": max_attempts}, **_EXPIRED},
            {
                "$set": {
                    "status": ExportStatus.FAILED,
                    "error_code": "worker_lost",
                    "error_message": message,
                    "completed_at": now(),
                    "updated_at": now(),
                },
                "$unset": {"lease": ""},
            },
        )
        return given_up.modified_count


def _owned(job_id: str, token: str) -> Document:
    return {"_id": job_id, "status": ExportStatus.RUNNING, "lease.token": token}
