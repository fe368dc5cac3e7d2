"""The evaluations collection: metrics of model versions and exports on datasets, and the jobs behind them."""

from collections.abc import Collection, Sequence

from model_service.states import EvaluationStatus
from model_service.storage.common.collections import rows
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import Fields, StoredId
from model_service.storage.common.leased_jobs import LeasedJobs
from model_service.storage.common.pages import page_of
from model_service.storage.evaluations.documents import Evaluation

_LAST_COMPLETED = [("completed_at", -1), ("_id", -1)]
_MOST_READ = 1000
_UNFINISHED = [status for status in EvaluationStatus if not status.final]
_NOT_LISTED = {"log": False, "source.files": False, "datasets": False, "confusion": False}


class Evaluations(LeasedJobs[Evaluation]):
    def __init__(self, database: Database) -> None:
        super().__init__(database.evaluations)

    def insert(self, evaluation: Evaluation, session: Session) -> None:
        self._jobs.insert_one(evaluation, session=session)

    def page(self, query: Fields, skip: int, limit: int) -> tuple[list[Evaluation], int]:
        return page_of(self._jobs, query, skip, limit, fields=_NOT_LISTED)

    def under_way(self, user_id: str, session: Session) -> int:
        """Return the number of a user's pending and running evaluations."""
        query = {"user_id": user_id, "status": {"$in": _UNFINISHED}}
        return self._jobs.count_documents(query, session=session)

    def completed_of(
        self, model_id: StoredId, dataset_ids: Collection[StoredId], session: Session | None = None
    ) -> list[Evaluation]:
        """Return the completed evaluations of a version and its exports on these datasets, newest first.

        At most _MOST_READ, without the confusion.
        """
        if not dataset_ids:
            return []
        query = {
            "model_id": model_id,
            "dataset_id": {"$in": list(dataset_ids)},
            "status": EvaluationStatus.COMPLETED,
        }
        found = self._jobs.find(query, _NOT_LISTED, sort=_LAST_COMPLETED, limit=_MOST_READ, session=session)
        return list(found)

    def latest_of_each_dataset(self, model_ids: Sequence[StoredId], limit: int) -> list[Evaluation]:
        """Return the last completed evaluation of these versions' own files on each dataset version.

        At most ``limit`` evaluations, sorted by model, then by dataset; the results come without confusion.
        """
        completed = {
            "model_id": {"$in": list(model_ids)},
            "export_job_id": None,
            "status": EvaluationStatus.COMPLETED,
        }
        order = {"model_id": 1, "dataset_id": 1, "export_job_id": 1, "completed_at": -1, "_id": -1}
        newest = {
            "_id": {"model_id": "$model_id", "dataset_id": "$dataset_id"},
            "evaluation": {"$first": "$$ROOT"},
        }
        found = self._jobs.aggregate(
            [
                {"$match": completed},
                {"$sort": order},
                {"$project": _NOT_LISTED},
                {"$group": newest},
                {"$replaceRoot": {"newRoot": "$evaluation"}},
                {"$sort": {"model_id": 1, "dataset_id": 1}},
                {"$limit": limit},
            ]
        )
        return list(rows(found, Evaluation))

    def remove(self, evaluation_id: str, session: Session) -> Evaluation | None:
        """Remove an evaluation that has ended; None if there is none."""
        ended = {"$in": [status for status in EvaluationStatus if status.final]}
        return self._jobs.find_one_and_delete({"_id": evaluation_id, "status": ended}, session=session)
