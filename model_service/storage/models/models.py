"""The models collection: one document per model version, and the only way to change one.

A change involves more than what ``Records`` does: the search reads derived fields, the statistics count the
model, new files are scanned. The caller encloses its transaction in ``changing(ids)``, which keeps response
caches from returning the old state.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from model_service.actor import namespace_of
from model_service.storage.blobs.scans import Scans
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session
from model_service.storage.common.documents import Fields
from model_service.storage.common.outbox import Outbox
from model_service.storage.models.documents import Model
from model_service.storage.models.events import transitions
from model_service.storage.models.hot_model import HotModel
from model_service.storage.models.search import derived_fields
from model_service.storage.statistics.counters import Counters
from model_service.storage.statistics.downloads import Downloads
from model_service.storage.versioned.records import DuplicateVersion
from model_service.storage.versioned.version_numbers import VersionNumbers
from model_service.storage.versioned.versions import Versions

if TYPE_CHECKING:
    from model_service.storage.models.hot_models import HotModels  # imports redis


class DuplicateAlias(Exception):
    """A concurrent transaction gave the alias to another version of the name."""


class Models(Versions[Model]):
    kind = "model"
    absent_when_empty = ("aliases", "dataset_ids")

    def __init__(
        self,
        database: Database,
        audit: Audit,
        numbers: VersionNumbers,
        counters: Counters,
        downloads: Downloads,
        scans: Scans,
        outbox: Outbox,
        hot: "HotModels | None" = None,
    ) -> None:
        """``hot`` is the cache to invalidate on changes; a reader needs none."""
        super().__init__(database.models, audit, numbers)
        self._statistics = counters
        self._downloads = downloads
        self._scans = scans
        self._outbox = outbox
        self._hot = hot

    @contextmanager
    def changing(self, *model_ids: ObjectId) -> Iterator[set[ObjectId]]:
        """Enclose the transaction that changes these models, so that no cache returns their old state.

        Further changed models must be added to the set that it yields.
        """
        changed = set(model_ids)
        try:
            yield changed
        finally:
            if self._hot is not None:
                self._hot.forget(changed)

    def answer(self, model_id: ObjectId, render: Callable[[Model], bytes]) -> HotModel | None:
        """Return the document as rendered by ``render``; responses for frequently read models are cached."""

        def load() -> HotModel | None:
            found = self.get(model_id)
            return None if found is None else HotModel.of(found, render)

        return load() if self._hot is None else self._hot.read(str(model_id), load)

    def with_aliases(self, name: str) -> list[Model]:
        """Return the versions of a name that have aliases, highest first."""
        query = {"name": name, "aliases": {"$exists": True}}
        return list(self._records.find(query, sort=[("version_order", -1)]))

    def aliases_of(self, name: str) -> list[str]:
        """Return up to 100 aliases of the name's versions."""
        query = {"name": name, "aliases": {"$exists": True}}
        found = self._records.find(query, {"aliases": True}, limit=100)
        return [alias for model in found for alias in model["aliases"]]

    def free_aliases(self, name: str, aliases: list[str], session: Session) -> list[str]:
        """Return the aliases that no version of the name has."""
        holders = self._records.find(
            {"name": name, "aliases": {"$in": aliases}}, {"aliases": True}, session=session
        )
        taken = {alias for holder in holders for alias in holder["aliases"]}
        return [alias for alias in aliases if alias not in taken]

    def count(self) -> int:
        """Return the approximate number of models, without reading them."""
        return self._records.estimated_document_count()

    def insert(
        self, document: Model, session: Session, *, action: str = "created", details: Fields | None = None
    ) -> None:
        """Store a new version; derived fields are also set on ``document``.

        Raises:
            DuplicateVersion: the name has that version already.
            RetiredVersion: a removed version of the name had that number.
            DuplicateAlias: another version of the name has one of the aliases.
        """
        derive(document)
        super().insert(document, session, action=action, details=details)

    def created_before(self, moment: datetime, status: str) -> Iterator[Model]:
        """Yield versions of a status created before ``moment``, oldest first. The caller may delete them."""
        query = {"status": status, "created_at": {"$lt": moment}}
        fields = dict.fromkeys(("name", "version", "created_at", "files"), True)
        with self._records.find(query, fields, sort=[("created_at", 1), ("_id", 1)]) as found:
            yield from found

    def count_download(self, model: Model) -> None:
        """Count the start of a download, which does not change the model's revision."""
        self._downloads.count(model)
        if self._hot is not None:
            self._hot.forget([model["_id"]], settle=False)

    def _derived(self, document: Model) -> Fields:
        return derived_fields(document)

    def _duplicate(self, exc: DuplicateKeyError) -> Exception:
        pattern = (exc.details or {}).get("keyPattern", {})
        return DuplicateAlias() if "aliases" in pattern else DuplicateVersion()

    def _details_of_removal(self, document: Model) -> Fields:
        return {"version": document["version"]}

    def _finish(
        self, action: str, before: Model | None, after: Model | None, session: Session, details: Fields
    ) -> None:
        if (
            after is not None
            and (before is None or before["files"] is not after["files"])
            and any("scan" not in file for file in after["files"])
        ):
            self._scans.note(after["_id"], session)
        super()._finish(action, before, after, session, details)
        self._statistics.change(before, after, session)
        self._outbox.record(lambda: transitions(action, before, after, details), session)


def derive(document: Model) -> None:
    """Set the derived fields of a new document, and remove empty fields of ``Models.absent_when_empty``."""
    if not document.get("aliases"):
        document.pop("aliases", None)
    if not document.get("dataset_ids"):
        document.pop("dataset_ids", None)
    document["namespace"] = namespace_of(document["name"])
    derived = derived_fields(document)
    document["terms"], document["metric_order"] = derived["terms"], derived["metric_order"]
