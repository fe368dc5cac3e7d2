"""The parts of a migration: what a step declares, and the errors of the runner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from model_service.config import SettingsError
from model_service.storage.common.db import Database, Document

# The name under which a migration and the schema list ``BUCKET.files``, whose own name is a setting.
BLOBS = "blobs"

# Returns the new form of each document, in the same order, and leaves its argument unchanged. A document that
# has the new form already is returned as it is: a step that was interrupted runs again. It gets a page of
# documents, so that what it needs from other collections is one query for all of them.
Upgrade = Callable[[Database, Sequence[Document]], Sequence[Document]]


@dataclass(frozen=True)
class Migration:
    """One step. Steps are never changed or removed after a release; a new one is added at the end.

    Args:
        version: the schema version that the data has after it; the first step is 1.
        name: what it does, as progress shows it: a noun phrase.
        documents: collection → how to upgrade its documents. The documents of an archive take the same way.
            A document that gets another ``_id`` replaces the one with the old id.
        derive: fills a collection that follows from others, after the documents have been upgraded. It runs
            again after a restore of an older archive, beside running writers, so it must be idempotent and
            must only add: upserts, ``$max``, ``$setOnInsert``.
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
    """Another process may be migrating now: this one has to look again."""
