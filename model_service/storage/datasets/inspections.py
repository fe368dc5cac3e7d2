"""Datasets whose files wait for an inspection, and its results.

The note that a file waits is written in the transaction that stores the file or changes its description. A
result is stored only if neither has changed since, and does not change the dataset's revision.
"""

import uuid
from collections.abc import Sequence

from pymongo import ReturnDocument

from model_service.states import InspectionStatus
from model_service.storage.common.clock import from_now
from model_service.storage.common.db import Database, Session, now, object_id
from model_service.storage.common.documents import Fields
from model_service.storage.datasets.documents import NEVER, Dataset, Inspection, waiting_inspection

_AT_ONCE = 200
_FREE = {
    "summary.status": InspectionStatus.PENDING,
    "$expr": {"$lt": ["$inspection.leased_until", "$$NOW"]},
}


class Inspections:
    def __init__(self, database: Database) -> None:
        self._datasets = database.datasets

    def waiting(self) -> list[str]:
        """Return the datasets that wait and that no worker has leased, oldest first."""
        found = self._datasets.find(_FREE, {"_id": True}, sort=[("_id", 1)], limit=_AT_ONCE)
        return [str(dataset["_id"]) for dataset in found]

    def count_waiting(self) -> int:
        return self._datasets.count_documents(_FREE)

    def begin(self, dataset_id: str, lease_s: float) -> Dataset | None:
        """Lease the dataset for this time and count an attempt. None if it is leased or does not wait.

        Each attempt has a new token, so that one whose lease expired stores nothing.
        """
        leased = {
            "inspection.token": str(uuid.uuid4()),
            "inspection.leased_until": from_now(lease_s),
            "inspection.attempts": {"$add": ["$inspection.attempts", 1]},
        }
        return self._datasets.find_one_and_update(
            {"_id": object_id(dataset_id), **_FREE},
            [{"$set": leased}],
            return_document=ReturnDocument.AFTER,
        )

    def end(self, dataset: Dataset, status: InspectionStatus, found: Fields) -> bool:
        """Store the result. Returns False if another attempt began, or the file or its schema changed."""
        inspection, file = dataset.get("inspection"), dataset["file_metadata"]
        assert inspection is not None  # begin has found it
        assert file is not None
        summary = {
            "error": None,
            **found,
            "status": status,
            "checksum": file["checksum"],
            "inspected_at": now(),
        }
        changed = self._datasets.update_one(
            _same(dataset, inspection), {"$set": {"summary": summary, "inspection": None}}
        )
        return changed.matched_count == 1

    def put_back(self, dataset: Dataset) -> None:
        """Let the dataset wait again; the attempt does not count."""
        inspection = dataset.get("inspection")
        assert inspection is not None
        again = {"inspection.leased_until": NEVER, "inspection.attempts": inspection["attempts"] - 1}
        self._datasets.update_one(_same(dataset, inspection), {"$set": again})

    def try_again(self, dataset: Dataset, pause_s: float) -> None:
        """Let the dataset wait again after a pause; the attempt counts."""
        inspection = dataset.get("inspection")
        assert inspection is not None
        self._datasets.update_one(
            _same(dataset, inspection), [{"$set": {"inspection.leased_until": from_now(pause_s)}}]
        )

    def look_again(self, datasets: Sequence[Dataset], session: Session) -> None:
        """Let the files of these datasets be inspected; summaries of another instance are not trusted."""
        for dataset in datasets:
            self._datasets.update_one(
                {"_id": dataset["_id"]}, {"$set": waiting_inspection(dataset)}, session=session
            )


def _same(dataset: Dataset, inspection: Inspection) -> Fields:
    return {"_id": dataset["_id"], "inspection.token": inspection["token"]}
