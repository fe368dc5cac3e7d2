"""The export_jobs collection: the truth of every conversion.

A worker owns a running job by its lease: who, until when, and a token that is new with every claim. Each
write of a worker names the token, so that one whose lease was taken over can no longer change anything.
All times of a lease are the database's, so the workers' clocks need not agree.
"""

import uuid
from collections.abc import Iterable
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.states import EXPORT_TRANSITIONS, ExportStatus
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Document, Session, now
from model_service.storage.common.pages import page_of

LOG_LINES = 200
# A try that ends in one of these steps has not read the model, which cannot have ended its worker.
_UNREAD_STEPS = ["fetch", "start"]
_MOST_UNREAD = 10
PROGRESS = (
    *("status", "progress_percent", "progress_message", "progress_step"),
    *("log", "log_count", "error_code", "error_message"),
)


class DefaultTaken(Exception):
    """Two exports became the default of one source at once: the later one has to look again."""


def unowned(grace_s: float = 0) -> Document:
    """No lease, or one that ran out ``grace_s`` ago."""
    return {"$expr": {"$lt": ["$lease.expires_at", from_now(-grace_s)]}}  # a missing lease is less than any


def may_become(status: ExportStatus) -> Document:
    sources = [source for source, targets in EXPORT_TRANSITIONS.items() if status in targets]
    return {"status": {"$in": sources}}


def claimable(max_attempts: int) -> Document:
    """Jobs without a worker that have tries left."""
    return {"attempts": {"$lt": max_attempts}, **may_become(ExportStatus.RUNNING), **unowned()}


def unread() -> Document:
    """Running jobs whose try has not read the model, while such tries are not counted yet."""
    return {
        "status": ExportStatus.RUNNING,
        "progress_step": {"$in": _UNREAD_STEPS},
        "unread_tries": {"$not": {"$gte": _MOST_UNREAD}},
    }


def _if_unread(then: int, otherwise: int) -> Document:
    """``unread`` as an expression of the document."""
    conditions = [
        {"$eq": ["$status", ExportStatus.RUNNING]},
        {"$in": ["$progress_step", _UNREAD_STEPS]},
        {"$lt": [{"$ifNull": ["$unread_tries", 0]}, _MOST_UNREAD]},
    ]
    return {"$cond": [{"$and": conditions}, then, otherwise]}


def source_blobs(job: Document) -> list[Any]:
    """The ids of the blobs that a job holds on to until it ends; one that is at two paths is there twice."""
    source = job["source"]
    files = source.get("files", [source])
    samples = [source["sample_inputs"]] if "sample_inputs" in source else []
    return [file["file_id"] for file in (*files, *samples)]


# What an export measured and left, which another one of the same request may be answered with.
_RESULTS = (
    *("exported_model_path", "model_size_bytes", "optimization_stats", "validation_metrics", "fidelity"),
    *("inputs", "outputs", "batch", "table", "performance", "environment", "package", "toolchain"),
)


def answered_from(equal: Document) -> Document:
    """The results of an equal export, as those of a job that is completed with them. It holds the package."""
    at = now()
    return {
        **{field: equal[field] for field in _RESULTS if field in equal},
        "reused_from": equal.get("reused_from") or equal["_id"],
        "status": ExportStatus.COMPLETED,
        "progress_percent": 100.0,
        "progress_message": "answered from an equal export",
        "started_at": at,
        "completed_at": at,
        "updated_at": at,
    }


class Exports:
    def __init__(self, database: Database) -> None:
        self._jobs = database.export_jobs

    def insert(self, document: Document, session: Session) -> None:
        """Store a new job under the next version numbers of its model and of its training job."""
        document["version"] = self._next("version", "model_id", document["model_id"], session)
        training_job_id = document.get("training_job_id")
        if training_job_id is not None:
            number = self._next("training_version", "training_job_id", training_job_id, session)
            document["training_version"] = number
        self._jobs.insert_one(document, session=session)

    def _next(self, number: str, source: str, source_id: Any, session: Session) -> int:
        query = {source: source_id, number: {"$gt": 0}}
        newest = self._jobs.find_one(query, {number: True}, sort=[(number, -1)], session=session)
        return newest[number] + 1 if newest else 1

    def get(self, job_id: str, session: Session | None = None) -> Document | None:
        return self._jobs.find_one({"_id": job_id}, session=session)

    def page(self, query: Document, skip: int, limit: int) -> tuple[list[Document], int]:
        return page_of(self._jobs, query, skip, limit, fields={"log": False, "source.files": False})

    def progress(self, job_id: str) -> Document | None:
        """What changes while a job runs, and its log."""
        fields = dict.fromkeys(PROGRESS, True)
        return self._jobs.find_one({"_id": job_id}, fields)

    def find_equal(self, job: Document, toolchains: Iterable[str]) -> Document | None:
        """The newest completed export of the same request by one of these toolchains."""
        return self._jobs.find_one(
            {
                "request_digest": job["request_digest"],
                "toolchain": {"$in": list(toolchains)},
                "status": ExportStatus.COMPLETED,
            },
            {"log": False, "source": False},
            sort=[("created_at", -1)],
        )

    def claim(self, job_id: str, *, worker: str, lease_s: float, max_attempts: int) -> Document | None:
        """Take a job that waits, or whose worker's lease ran out; None when it is not to be had.

        A try that lost its worker before the model was read is not counted, ``_MOST_UNREAD`` times.
        """
        lease = {"worker": worker, "token": str(uuid.uuid4()), "expires_at": from_now(lease_s)}
        return self._jobs.find_one_and_update(
            {"_id": job_id, **claimable(max_attempts)},
            [
                {
                    "$set": {
                        "status": ExportStatus.RUNNING,
                        "lease": lease,
                        "worker": worker,
                        "attempts": {"$add": ["$attempts", _if_unread(0, 1)]},
                        "unread_tries": {"$add": [{"$ifNull": ["$unread_tries", 0]}, _if_unread(1, 0)]},
                        "started_at": "$$NOW",
                        "updated_at": "$$NOW",
                        "progress_percent": 0.0,
                        "progress_step": _UNREAD_STEPS[0],
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

    def report(self, job_id: str, token: str, *, percent: float, message: str, **fields: Any) -> None:
        """Progress, shown and kept in the log, and other fields that are known by then."""
        shown = {"progress_percent": percent, "progress_message": message, "updated_at": now(), **fields}
        self._jobs.update_one(_owned(job_id, token), {"$set": shown, **logged(message)})

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
            {"$set": done, "$unset": {"lease": ""}, **logged("completed")},
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
                "$set": {**failure(code, message), **(results or {})},
                "$unset": {"lease": ""},
                **logged(f"failed: {message}"),
            },
            session=session,
        )
        return changed.modified_count == 1

    def cancel(self, job_id: str, by: str, session: Session) -> Document | None:
        """End a job that has not ended; None when it has. Its worker notices at its lease, and stops."""
        at = now()
        ended = {
            "status": ExportStatus.CANCELLED,
            "progress_message": "cancelled",
            "completed_at": at,
            "updated_at": at,
        }
        return self._jobs.find_one_and_update(
            {"_id": job_id, **may_become(ExportStatus.CANCELLED)},
            {"$set": ended, "$unset": {"lease": ""}, **logged(f"cancelled by {by}")},
            return_document=ReturnDocument.AFTER,
            session=session,
        )

    def set_default(self, job: Document, session: Session) -> bool:
        """Make a completed job the default of its model, and of its training job; False: not completed.

        The former defaults of both no longer are.

        Raises:
            DefaultTaken: another one became it at the same moment.
        """
        marks = {"is_default": "model_id"}
        if job.get("training_job_id") is not None:
            marks["is_training_default"] = "training_job_id"
        for mark, source in marks.items():
            others = {source: job[source], mark: True, "_id": {"$ne": job["_id"]}}
            self._jobs.update_many(others, {"$set": {mark: False, "updated_at": now()}}, session=session)
        completed = {"_id": job["_id"], "status": ExportStatus.COMPLETED}
        try:
            changed = self._jobs.update_one(
                completed, {"$set": dict.fromkeys(marks, True) | {"updated_at": now()}}, session=session
            )
        except DuplicateKeyError:
            raise DefaultTaken from None
        return changed.matched_count == 1

    def hand_back(self, job_id: str, token: str, *, counted: bool = False) -> None:
        """The job waits again. An orderly stop of the worker is no failed try; ``counted`` is one."""
        uncount = {} if counted else {"$inc": {"attempts": -1}}
        self._jobs.update_one(
            _owned(job_id, token, ExportStatus.PENDING),
            {"$set": {"status": ExportStatus.PENDING}, "$unset": {"lease": ""}, **uncount},
        )


def failure(code: str, message: str) -> Document:
    at = now()
    return {
        "status": ExportStatus.FAILED,
        "error_code": code,
        "error_message": message,
        "completed_at": at,
        "updated_at": at,
    }


def logged(line: str) -> Document:
    """The update that adds a line to the log. ``log_count`` counts those that it no longer keeps, too."""
    stamped = f"{now():%H:%M:%S} {line}"
    return {
        "$push": {"log": {"$each": [stamped], "$slice": -LOG_LINES}},
        "$inc": {"log_count": 1},
    }


def _owned(job_id: str, token: str, to: ExportStatus = ExportStatus.RUNNING) -> Document:
    """The job, if this lease still holds it and its status may become ``to``."""
    return {"_id": job_id, "lease.token": token, **may_become(to)}
