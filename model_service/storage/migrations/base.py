"""The declaration of a migration step, and the errors of the runner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from model_service.config import SettingsError
from model_service.storage.common.db import Database
from model_service.storage.common.documents import AnyDocument

# The name of ``BUCKET.files`` in migrations and the schema, since the bucket's name is a setting.
BLOBS = "blobs"

# Returns the new form of each document, in order, and keeps its argument unchanged. A document of the
# new form is returned unchanged, as an interrupted step runs again. It receives a page of documents, so that
# one query can read what all of them need from another collection.
Upgrade = Callable[[Database, Sequence[AnyDocument]], Sequence[AnyDocument]]


@dataclass(frozen=True)
class Migration:
    """One step. Steps are never changed or removed after a release; new ones are added at the end.

    Args:
        version: the schema version of the data after the step; the first step is 1.
        name: what the step does, as shown with its progress: a noun phrase.
        documents: collection → function that upgrades its documents, also those of an archive. A document
            with a new ``_id`` replaces the one with the old id.
        derive: fills a derived collection, after the documents have been upgraded. It runs again after a
            restore of an older archive, concurrently with writers, so it must be idempotent and must only
            add: upserts, ``$max``, ``$setOnInsert``.
        obsolete_indexes: collection → names of indexes that no longer exist in ``storage.common.indexes``.
    """

    version: int
    name: str
    documents: Mapping[str, Upgrade] = field(default_factory=dict)
    derive: Callable[[Database], None] | None = None
    obsolete_indexes: Mapping[str, Sequence[str]] = field(default_factory=dict)


class DataTooNew(SettingsError):
    """The stored data was written by a newer version of the service. No retry helps."""


class LeaseLost(Exception):
    """Another process may be migrating now: this one must read the state again."""
