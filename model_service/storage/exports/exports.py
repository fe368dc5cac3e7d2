"""The export_jobs collection: the authoritative state of every conversion.

A worker owns a running job by its lease: worker, expiry, and a token that is new in every claim. Every write
of a worker includes the token, so a worker whose lease was taken over cannot change anything. All times of a
lease are by the database's clock, so the workers' clocks need not agree.
"""

import uuid
from collections.abc import Iterable, Sequence

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from model_service.metrics import LEASES_LOST
from model_service.states import EXPORT_TRANSITIONS, ExportStatus
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import BlobReference, Fields, StoredId
from model_service.storage.common.pages import page_of
from model_service.storage.exports.documents import ExportJob, whole_file

LOG_LINES = 200
# An attempt that ends in one of these steps has not read the model, which cannot have killed the worker.
_UNREAD_STEPS = ["fetch", "start"]
_MOST_UNREAD = 10
PROGRESS = (
    *("status", "progress_percent", "progress_message", "progress_step"),
    *("log", "log_count", "error_code", "error_message"),
)


class DefaultTaken(Exception):
    """Two exports became the default of one source concurrently: the later one must try again."""


def unowned(grace_s: float = 0) -> dict[str, object]:
    """Return the filter for jobs without a lease, or whose lease expired ``grace_s`` ago."""
    return {"$expr": {"$lt": ["$lease.expires_at", from_now(-grace_s)]}}  # a missing lease compares as less


def may_become(status: ExportStatus) -> dict[str, object]:
    sources = [source for source, targets in EXPORT_TRANSITIONS.items() if status in targets]
    return {"status": {"$in": sources}}


def claimable(max_attempts: int) -> dict[str, object]:
    """Return the filter for jobs without a worker that have attempts left."""
    return {"attempts": {"$lt": max_attempts}, **may_become(ExportStatus.RUNNING), **unowned()}


def unread() -> dict[str, object]:
    """Return the filter for running jobs whose attempt has not read the model and is not counted yet."""
    return {
        "status": ExportStatus.RUNNING,
        "progress_step": {"$in": _UNREAD_STEPS},
        "unread_tries": {"$not": {"$gte": _MOST_UNREAD}},
    }


def _if_unread(then: int, otherwise: int) -> Fields:
    """Return ``unread`` as an expression on the document."""
    conditions = [
        {"$eq": ["$status", ExportStatus.RUNNING]},
        {"$in": ["$progress_step", _UNREAD_STEPS]},
        {"$lt": [{"$ifNull": ["$unread_tries", 0]}, _MOST_UNREAD]},
    ]
    return {"$cond": [{"$and": conditions}, then, otherwise]}


def source_blobs(job: ExportJob) -> list[StoredId]:
    """Return the ids of the blobs that a job holds until it ends; a file at two paths occurs twice."""
    source = job["source"]
    files: Sequence[BlobReference] = source.get("files") or [whole_file(source)]
    samples = [source["sample_inputs"]] if "sample_inputs" in source else []
    return [file["file_id"] for file in (*files, *samples)]


# The results of an export, which an equal export request can reuse.
_RESULTS = (
    *("exported_model_path", "model_size_bytes", "optimization_stats", "validation_metrics", "fidelity"),
    *("inputs", "outputs", "batch", "table", "performance", "environment", "package", "toolchain"),
)


def answered_from(equal: ExportJob) -> Fields:
    """Return the results of an equal export for a job that is completed with them, including the package."""
    at = now()
    return {
        **{field: value for field, value in equal.items() if field in _RESULTS},
        "reused_from": equal.get("reused_from") or equal["_id"],
        "status": ExportStatus.COMPLETED,
        "progress_percent": 100.0,
        "progress_message": "reused from an equal export",
        "started_at": at,
        "completed_at": at,
        "updated_at": at,
    }


class Exports:
    def __init__(self, database: Database) -> None:
        self._jobs = database.export_jobs

    def insert(self, document: ExportJob, session: Session) -> None:
        """Store a new job with the next version numbers of its model and its training job."""
        document["version"] = self._next("version", "model_id", document["model_id"], session)
        training_job_id = document.get("training_job_id")
        if training_job_id is not None:
            number = self._next("training_version", "training_job_id", training_job_id, session)
            document["training_version"] = number
        self._jobs.insert_one(document, session=session)

    def _next(self, number: str, source: str, source_id: object, session: Session) -> int:
        query = {source: source_id, number: {"$gt": 0}}
        newest = self._jobs.find_one(query, {number: True}, sort=[(number, -1)], session=session)
        fields: Fields = newest or {}
        given = fields.get(number)
        return given + 1 if isinstance(given, int) else 1

    def get(self, job_id: str, session: Session | None = None) -> ExportJob | None:
        return self._jobs.find_one({"_id": job_id}, session=session)

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[ExportJob], int]:
        return page_of(self._jobs, query, skip, limit, fields={"log": False, "source.files": False})

    def progress(self, job_id: str) -> ExportJob | None:
        """Return the fields that change while a job runs, and its log."""
        fields = dict.fromkeys(PROGRESS, True)
        return self._jobs.find_one({"_id": job_id}, fields)

    def find_equal(self, job: ExportJob, toolchains: Iterable[str]) -> ExportJob | None:
        """Return the newest completed export of the same request by one of these toolchains."""
        return self._jobs.find_one(
            {
                "request_digest": job["request_digest"],
                "toolchain": {"$in": list(toolchains)},
                "status": ExportStatus.COMPLETED,
            },
            {"log": False, "source": False},
            sort=[("created_at", -1)],
        )

    def claim(self, job_id: str, *, worker: str, lease_s: float, max_attempts: int) -> ExportJob | None:
        """Claim a job that waits, or whose worker's lease has expired; None if it cannot be claimed.

        An attempt that lost its worker before it read the model is not counted, at most
        ``_MOST_UNREAD`` times.
        """
        lease = {"worker": worker, "token": str(uuid.uuid4()), "expires_at": from_now(lease_s)}
        taken = {
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
        for status in (ExportStatus.PENDING, ExportStatus.RUNNING):
            job = self._jobs.find_one_and_update(
                {"_id": job_id, **claimable(max_attempts), "status": status},
                [{"$set": taken}],
                return_document=ReturnDocument.AFTER,
            )
            if job is not None:
                if status is ExportStatus.RUNNING:  # the lease of another worker has expired
                    LEASES_LOST.inc()
                return job
        return None

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

    def complete(self, job_id: str, token: str, results: Fields, session: Session) -> bool:
        """Complete the job. Returns False if the lease is lost; nothing was changed then."""
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
        results: Fields | None = None,
    ) -> bool:
        """Mark the job as failed. Returns False if the lease is lost; nothing was changed then."""
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

    def cancel(self, job_id: str, by: str, session: Session) -> ExportJob | None:
        """Cancel an unfinished job; None if it has ended. Its worker notices at its lease, and stops."""
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

    def set_default(self, job: ExportJob, session: Session) -> bool:
        """Make a completed job the default of its model and of its training job; False: it is not completed.

        The previous defaults of both lose the mark.

        Raises:
            DefaultTaken: another export became the default concurrently.
        """
        marks: dict[str, Fields] = {"is_default": {"model_id": job["model_id"]}}
        if (training_job_id := job.get("training_job_id")) is not None:
            marks["is_training_default"] = {"training_job_id": training_job_id}
        for mark, source in marks.items():
            others = {**source, mark: True, "_id": {"$ne": job["_id"]}}
            self._jobs.update_many(others, {"$set": {mark: False, "updated_at": now()}}, session=session)
        completed = {"_id": job["_id"], "status": ExportStatus.COMPLETED}
        try:
            changed = self._jobs.update_one(
                completed, {"$set": dict.fromkeys(marks, True) | {"updated_at": now()}}, session=session
            )
        except DuplicateKeyError:
            raise DefaultTaken from None
        return changed.matched_count == 1

    def hand_back(self, job_id: str, token: str, *, failed: str | None = None) -> None:
        """Return the job to waiting.

        Args:
            failed: the line for the job's log on a failed attempt. None: an orderly stop, whose attempt does
                not count.
        """
        change = {"$inc": {"attempts": -1}} if failed is None else logged(failed)
        self._jobs.update_one(
            _owned(job_id, token, ExportStatus.PENDING),
            {"$set": {"status": ExportStatus.PENDING}, "$unset": {"lease": ""}, **change},
        )


def failure(code: str, message: str) -> Fields:
    at = now()
    return {
        "status": ExportStatus.FAILED,
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


def _owned(job_id: str, token: str, to: ExportStatus = ExportStatus.RUNNING) -> Fields:
    """Return the filter for the job if this lease holds it and its status may become ``to``."""
    return {"_id": job_id, "lease.token": token, **may_become(to)}
