"""Version 3: the numbers of removed versions are recorded, so that none is given again.

Before, the number of a purged version was free again. The trash, the audit log and the export jobs show which
numbers were given.
"""

from collections.abc import Iterator
from itertools import islice

from pymongo import UpdateOne

from model_service.storage.common.db import Database, object_id
from model_service.storage.common.documents import StoredId
from model_service.storage.migrations.base import Migration
from model_service.storage.versioned.version_numbers import noted

_BATCH = 1000
_MINORS = 10**6


def _note_known_numbers(database: Database) -> None:
    known = _known_numbers(database)
    while batch := list(islice(known, _BATCH)):
        ids = [subject_id for _, _, _, subject_id in batch]
        wanted, only_id = {"_id": {"$in": ids}}, {"_id": True}
        alive = {found["_id"] for found in database.models.find(wanted, only_id)}
        alive |= {found["_id"] for found in database.datasets.find(wanted, only_id)}
        notes = [
            noted(kind, name, _order(version), subject_id)
            for kind, name, version, subject_id in batch
            if subject_id not in alive
        ]
        updates = [UpdateOne(key, {"$setOnInsert": fields}, upsert=True) for key, fields in notes]
        if updates:
            database.version_numbers.bulk_write(updates, ordered=False)


def _known_numbers(database: Database) -> Iterator[tuple[str, str, str, StoredId]]:
    """Yield ``kind, name, version, id`` of versions that exist or existed."""
    for model in database.deleted_models.find({}, {"name": True, "version": True}, sort=[("_id", 1)]):
        yield "model", model["name"], model["version"], model["_id"]
    created = {"kind": {"$in": ["model", "dataset"]}, "action": "created"}
    fields = dict.fromkeys(("kind", "name", "subject_id", "details"), True)
    for entry in database.audit.find(created, fields):
        subject_id = object_id(entry["subject_id"])
        if subject_id is not None and "version" in entry["details"]:
            yield entry["kind"], str(entry["name"]), str(entry["details"]["version"]), subject_id
    fields = dict.fromkeys(("model_id", "model_name", "model_version"), True)
    for job in database.export_jobs.find({}, fields, sort=[("_id", 1)]):
        yield "model", job["model_name"], job["model_version"], job["model_id"]


def _order(version: str) -> int:
    major, _, minor = version.removeprefix("v").partition(".")
    return int(major) * _MINORS + int(minor or 0)


MIGRATION = Migration(version=3, name="numbers of removed versions", derive=_note_known_numbers)
