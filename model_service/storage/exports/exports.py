"""The export_jobs collection: the authoritative state of every conversion."""

from collections.abc import Iterable

from pymongo.errors import DuplicateKeyError

from model_service.states import ExportStatus
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.common.job_events import of_exports
from model_service.storage.common.leased_jobs import LeasedJobs
from model_service.storage.common.outbox import Outbox
from model_service.storage.common.pages import page_of
from model_service.storage.exports.documents import ExportJob, Interface


class DefaultTaken(Exception):
    """Two exports became the default of one source concurrently: the later one must try again."""


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


_NOT_LISTED = {"log": False, "source.files": False, "teacher.files": False}


class Exports(LeasedJobs[ExportJob]):
    def __init__(self, database: Database, outbox: Outbox) -> None:
        super().__init__(database, database.export_jobs, of_exports(outbox))

    def insert(self, document: ExportJob, session: Session) -> None:
        """Store a new job with the next version numbers of its model and its training job."""
        document["version"] = self._next("version", "model_id", document["model_id"], session)
        training_job_id = document.get("training_job_id")
        if training_job_id is not None:
            number = self._next("training_version", "training_job_id", training_job_id, session)
            document["training_version"] = number
        self._jobs.insert_one(document, session=session)
        self._record(document, None, document["status"], session)

    def _next(self, number: str, source: str, source_id: object, session: Session) -> int:
        query = {source: source_id, number: {"$gt": 0}}
        newest = self._jobs.find_one(query, {number: True}, sort=[(number, -1)], session=session)
        fields: Fields = newest or {}
        given = fields.get(number)
        return given + 1 if isinstance(given, int) else 1

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[ExportJob], int]:
        return page_of(self._jobs, query, skip, limit, fields=_NOT_LISTED)

    def inputs_of(self, model_id: StoredId, checksum: str) -> list[Interface] | None:
        """Return the inputs of a model, as its newest export of these files says; None without one.

        Exports with an embedded preprocessing are left out: they have other inputs than the model.
        """
        found = self._newest_of(model_id, checksum, {"inputs": {"$exists": True}})
        return found.get("inputs") if found is not None else None

    def outputs_of(self, model_id: StoredId, checksum: str) -> list[Interface] | None:
        """Return the outputs of a model, as its newest export of these files says; None without one.

        Exports with an embedded preprocessing or postprocessing are left out: they have other outputs.
        """
        query = {"outputs": {"$exists": True}, "export_config.embed_postprocessing": {"$ne": True}}
        found = self._newest_of(model_id, checksum, query)
        return found.get("outputs") if found is not None else None

    def _newest_of(self, model_id: StoredId, checksum: str, query: Fields) -> ExportJob | None:
        return self._jobs.find_one(
            {
                "model_id": model_id,
                "status": ExportStatus.COMPLETED,
                "source.checksum": checksum,
                "export_config.embed_preprocessing": {"$ne": True},
                **query,
            },
            {"inputs": True, "outputs": True},
            sort=[("version", -1)],
        )

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

    def verified_of(self, model_id: StoredId, session: Session | None = None) -> list[ExportJob]:
        """Return the completed and verified exports of a version, the default first, then the newest 100."""
        query = {"model_id": model_id, "status": ExportStatus.COMPLETED, "fidelity.verdict": "verified"}
        fields = (
            *("export_format", "source.checksum", "performance", "is_default"),
            *("validation_metrics", "validation_config", "optimization_config", "datasets"),
        )
        order = [("is_default", -1), ("created_at", -1), ("_id", -1)]
        found = self._jobs.find(query, dict.fromkeys(fields, True), sort=order, limit=101, session=session)
        return list(found)

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
