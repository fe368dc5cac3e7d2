"""Version 4: files with a scan result without a verdict are scanned again.

Before, a scan called every file without a pickle safe: programs, scripts, archives behind a pickle.
"""

from itertools import islice

from model_service.storage.blobs.scans import Scans
from model_service.storage.common.db import Database
from model_service.storage.migrations.base import Migration

_BATCH = 1000
_IN_ORDER = [("_id", 1)]  # one pass over the whole collection
_OLD = {"scan": {"$exists": True}, "scan.verdict": {"$exists": False}}


def _forget_old_findings(database: Database) -> None:
    database.files.update_many(
        {"metadata.scan": {"$exists": True}, "metadata.scan.verdict": {"$exists": False}},
        {"$unset": {"metadata.scan": ""}},
        hint=_IN_ORDER,
    )
    scans = Scans(database)
    for models in (database.models, database.deleted_models):
        found = models.find({"files": {"$elemMatch": _OLD}}, {"_id": True}, sort=_IN_ORDER)
        ids = (model["_id"] for model in found)
        while batch := list(islice(ids, _BATCH)):
            for model_id in batch:
                scans.note(model_id)
            models.update_many(
                {"_id": {"$in": batch}},
                {"$unset": {"files.$[old].scan": ""}, "$inc": {"scans": 1}},
                array_filters=[{f"old.{name}": value for name, value in _OLD.items()}],
            )


MIGRATION = Migration(version=4, name="verdicts of scans", derive=_forget_old_findings)
