"""The evaluations collection: metrics of model versions and exports on datasets, and the jobs behind them."""

from collections.abc import Collection

from model_service.states import EvaluationStatus
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.common.job_events import of_evaluations
from model_service.storage.common.leased_jobs import LeasedJobs
from model_service.storage.common.outbox import Outbox
from model_service.storage.common.pages import page_of
from model_service.storage.evaluations.documents import Evaluation
from model_service.storage.models.documents import ShownEvaluation
from model_service.storage.models.search import derived_fields

# Dataset versions with an evaluation in a model's document.
MAX_SHOWN = 100
_LAST_COMPLETED = [("completed_at", -1), ("_id", -1)]
_MOST_READ = 1000
_UNFINISHED = [status for status in EvaluationStatus if not status.final]
_NOT_LISTED = {"log": False, "source.files": False, "datasets": False, "confusion": False}


class Evaluations(LeasedJobs[Evaluation]):
    def __init__(self, database: Database, outbox: Outbox) -> None:
        super().__init__(database, database.evaluations, of_evaluations(outbox))
        self._models, self._deleted_models = database.models, database.deleted_models

    def insert(self, evaluation: Evaluation, session: Session) -> None:
        self._jobs.insert_one(evaluation, session=session)
        self._record(evaluation, None, evaluation["status"], session)

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[Evaluation], int]:
        return page_of(self._jobs, query, skip, limit, fields=_NOT_LISTED)

    def under_way(self, user_id: str, session: Session) -> int:
        """Return the number of a user's pending and running evaluations."""
        query = {"user_id": user_id, "status": {"$in": _UNFINISHED}}
        return self._jobs.count_documents(query, session=session)

    def completed_of(
        self,
        model_id: StoredId,
        dataset_ids: Collection[StoredId],
        export_job_ids: Collection[str | None],
        session: Session | None = None,
    ) -> list[Evaluation]:
        """Return the completed evaluations of a version on all rows of these datasets, newest first.

        At most _MOST_READ, without log and confusion.

        Args:
            export_job_ids: of these exports of the version; None in it: of the version's own files.
        """
        if not dataset_ids or not export_job_ids:
            return []
        query = {
            "model_id": model_id,
            "dataset_id": {"$in": list(dataset_ids)},
            "export_job_id": {"$in": list(export_job_ids)},
            "status": EvaluationStatus.COMPLETED,
            "samples": None,
        }
        fields = {name: False for name in _NOT_LISTED if name != "datasets"}
        found = self._jobs.find(query, fields, sort=_LAST_COMPLETED, limit=_MOST_READ, session=session)
        return list(found)

    def show_latest(self, model_id: StoredId, dataset_id: StoredId, session: Session) -> None:
        """Write the last completed evaluation of a version's own files on a dataset version into the model.

        Call it in the transaction that completes or removes an evaluation. The model's revision stays.
        """
        query = {
            "model_id": model_id,
            "dataset_id": dataset_id,
            "export_job_id": None,
            "status": EvaluationStatus.COMPLETED,
        }
        latest = self._jobs.find_one(query, _NOT_LISTED, sort=_LAST_COMPLETED, session=session)
        shown = [] if latest is None else [_shown(latest)]
        newest_first = {"$each": shown, "$position": 0, "$slice": MAX_SHOWN}
        for models in (self._models, self._deleted_models):
            former = {"$pull": {"evaluations": {"dataset_id": dataset_id}}}
            models.update_one({"_id": model_id}, former, session=session)
            change = {"$push": {"evaluations": newest_first}, "$inc": {"scans": 1}}
            models.update_one({"_id": model_id}, change, session=session)
        if (model := self._models.find_one({"_id": model_id}, session=session)) is not None:
            searched = {"metric_order": derived_fields(model)["metric_order"]}
            self._models.update_one({"_id": model_id}, {"$set": searched}, session=session)

    def remove(self, evaluation_id: str, session: Session) -> Evaluation | None:
        """Remove an evaluation that has ended; None if there is none."""
        ended = {"$in": [status for status in EvaluationStatus if status.final]}
        return self._jobs.find_one_and_delete({"_id": evaluation_id, "status": ended}, session=session)


def _shown(evaluation: Evaluation) -> ShownEvaluation:
    return {
        "evaluation_id": evaluation["_id"],
        "dataset_id": evaluation["dataset_id"],
        "dataset_name": evaluation["dataset_name"],
        "dataset_version": evaluation["dataset_version"],
        "dataset_checksum": evaluation["dataset_checksum"],
        "source_checksum": evaluation["source_checksum"],
        "metrics": {name: metric["value"] for name, metric in (evaluation["results"] or {}).items()},
        "samples": evaluation["evaluated_samples"],
        "completed_at": evaluation["completed_at"],
    }
