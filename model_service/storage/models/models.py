"""The models collection: one document per model version, and the only way to change one.

Every change of a model document goes through ``insert``, ``change`` or ``remove``, in a transaction of the
caller, because it involves more than the document: the ``revision`` counts the changes, the search reads
derived fields, the statistics count the model, the audit log records who changed it. The caller encloses the
transaction in ``changing(ids)``, which keeps response caches from returning the old state.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Generic, NamedTuple

from bson import ObjectId
from bson import encode as bson_encode
from pymongo.errors import DuplicateKeyError

from model_service.actor import namespace_of
from model_service.storage.blobs.scans import Scans
from model_service.storage.common.audit import Audit
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import D, Fields, changed
from model_service.storage.common.file_entries import FilesEdit, change_details, change_files, find_for_file
from model_service.storage.common.names import names_near
from model_service.storage.models.documents import Model
from model_service.storage.models.hot_model import HotModel
from model_service.storage.models.search import derived_fields
from model_service.storage.models.version_numbers import VersionNumbers
from model_service.storage.statistics.counters import Counters
from model_service.storage.statistics.downloads import Downloads

if TYPE_CHECKING:
    from model_service.storage.models.hot_models import HotModels  # imports redis

# Fields with partial indexes, which do not contain documents without the field.
ABSENT_WHEN_EMPTY = ("aliases", "dataset_ids")


class DuplicateVersion(Exception):
    """(name, version) is taken."""


class RetiredVersion(DuplicateVersion):
    """(name, version) belongs to a removed version: in the trash, or purged."""


class DuplicateAlias(Exception):
    """A concurrent transaction gave the alias to another version of the name."""


class Change(NamedTuple, Generic[D]):
    before: D
    after: D


class Models:
    def __init__(
        self,
        database: Database,
        audit: Audit,
        counters: Counters,
        downloads: Downloads,
        scans: Scans,
        numbers: VersionNumbers,
        hot: "HotModels | None" = None,
    ) -> None:
        """``hot`` is the cache to invalidate on changes; a reader needs none."""
        self._models = database.models
        self._audit = audit
        self._statistics = counters
        self._downloads = downloads
        self._scans = scans
        self._numbers = numbers
        self._hot = hot

    @staticmethod
    def new_id() -> ObjectId:
        return ObjectId()

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

    def get(self, model_id: ObjectId, session: Session | None = None) -> Model | None:
        return self._models.find_one({"_id": model_id}, session=session)

    def answer(self, model_id: ObjectId, render: Callable[[Model], bytes]) -> HotModel | None:
        """Return the document as rendered by ``render``; responses for frequently read models are cached."""

        def load() -> HotModel | None:
            found = self.get(model_id)
            return None if found is None else HotModel.of(found, render)

        return load() if self._hot is None else self._hot.read(str(model_id), load)

    def find(self, query: Fields, session: Session | None = None) -> Model | None:
        """Return the matching document; if several versions match, the highest."""
        order = None if "_id" in query else [("version_order", -1)]
        return self._models.find_one(query, sort=order, session=session)

    def newest_version_order(self, name: str, *, below: int | None = None) -> int | None:
        """Return the highest version that the name has or ever had, below a bound if given."""
        return self._numbers.newest("model", self._models, name, below=below)

    def with_aliases(self, name: str) -> list[Model]:
        """Return the versions of a name that have aliases, highest first."""
        return list(self._models.find({"name": name, "aliases": {"$exists": True}}).sort("version_order", -1))

    def names_near(self, name: str) -> list[str]:
        return names_near(self._models, name)

    def aliases_of(self, name: str) -> list[str]:
        """Return up to 100 aliases of the name's versions."""
        query = {"name": name, "aliases": {"$exists": True}}
        found = self._models.find(query, {"aliases": True}, limit=100)
        return [alias for model in found for alias in model["aliases"]]

    def free_aliases(self, name: str, aliases: list[str], session: Session) -> list[str]:
        """Return the aliases that no version of the name has."""
        holders = self._models.find(
            {"name": name, "aliases": {"$in": aliases}}, {"aliases": True}, session=session
        )
        taken = {alias for holder in holders for alias in holder["aliases"]}
        return [alias for alias in aliases if alias not in taken]

    def count(self) -> int:
        """Return the approximate number of models, without reading them."""
        return self._models.estimated_document_count()

    def insert(self, document: Model, session: Session, *, action: str = "created") -> None:
        """Store a new document; derived fields are also set on ``document``.

        Args:
            document: complete, with its ``_id`` and ``revision``.

        Raises:
            DuplicateVersion: the name has that version already.
            RetiredVersion: a removed version of the name had that number.
            DuplicateAlias: another version of the name has one of the aliases.
        """
        derive(document)
        if self._numbers.given("model", [document], session):
            raise RetiredVersion
        try:
            self._models.insert_one(document, session=session)
        except DuplicateKeyError as exc:
            raise _duplicate(exc) from None
        if any("scan" not in file for file in document["files"]):
            self._scans.note(document["_id"], session)
        self._record(action, document, session, {"version": document["version"]})
        self._statistics.change(None, document, session)

    def change(
        self,
        model_id: ObjectId,
        edit: Callable[[Model], Fields],
        session: Session,
        *,
        action: str = "updated",
        details: Fields | None = None,
    ) -> Change[Model] | None:
        """Change a document as ``edit`` decides; None if there is none.

        If no value changes, nothing is written and the revision stays. Two transactions that change the same
        document cannot both commit: the later one is aborted, and runs again.

        Args:
            edit: returns the fields with new values, given the present document. None is stored as null, but
                empty fields of ABSENT_WHEN_EMPTY are removed. An error that it raises aborts the transaction.
            action, details: for the audit log; default of ``details``: the names of the changed fields.

        Raises:
            DuplicateAlias: another version of the name has one of its new aliases.
        """
        before = self.get(model_id, session)
        if before is None:
            return None
        values: Fields = before
        edited = edit(before)
        absent = {field for field in ABSENT_WHEN_EMPTY if field in edited and not edited[field]}
        changes = {
            field: value
            for field, value in edited.items()
            if (field in values if field in absent else field not in values or not same(values[field], value))
        }
        if not changes:
            return Change(before, before)
        changes |= {"revision": before["revision"] + 1, "updated_at": now()}
        after = changed(before, {field: value for field, value in changes.items() if field not in absent})
        _remove(after, absent)
        derived = {
            field: value for field, value in derived_fields(after).items() if values.get(field) != value
        }
        after = changed(after, derived)
        stored = {field: value for field, value in (changes | derived).items() if field not in absent}
        update: dict[str, Fields] = {"$set": stored}
        if absent:
            update["$unset"] = dict.fromkeys(absent, "")
        try:
            self._models.update_one({"_id": model_id}, update, session=session)
        except DuplicateKeyError as exc:
            raise _duplicate(exc) from None
        fields = sorted(set(changes) - {"revision", "updated_at"})
        self._record(action, after, session, {"fields": fields} if details is None else details)
        self._statistics.change(before, after, session)
        return Change(before, after)

    def find_for_file(self, query: Fields, path: str | None) -> Model | None:
        """Like ``find``, with the files that a change at the path may affect; see ``file_entries``."""
        order = [] if "_id" in query else [{"$sort": {"version_order": -1}}]
        return find_for_file(self._models, [{"$match": query}, *order, {"$limit": 1}], path)

    def change_file(
        self,
        model_id: ObjectId,
        path: str,
        edit: Callable[[Model], FilesEdit],
        session: Session,
        *,
        action: str,
    ) -> Change[Model] | None:
        """Change the file at a path; see ``change_files``. Search fields do not depend on files."""
        changed = change_files(self._models, model_id, path, edit, session)
        if changed is None:
            return None
        before, after = changed
        if after is not before:
            if any("scan" not in file for file in after["files"]):
                self._scans.note(model_id, session)
            self._record(action, after, session, change_details(before, after, path))
            self._statistics.change(before, after, session)
        return Change(before, after)

    def created_before(self, moment: datetime, status: str) -> Iterator[Model]:
        """Yield versions of a status created before ``moment``, oldest first. The caller may delete them."""
        query = {"status": status, "created_at": {"$lt": moment}}
        fields = dict.fromkeys(("name", "version", "created_at", "files"), True)
        with self._models.find(query, fields, sort=[("created_at", 1), ("_id", 1)]) as found:
            yield from found

    def remove(self, model_id: ObjectId, session: Session) -> Model | None:
        """Remove the document and return it, for the caller to store or discard; None if there is none."""
        gone = self._models.find_one_and_delete({"_id": model_id}, session=session)
        if gone is not None:
            self._numbers.note("model", gone, session)
            self._record("deleted", gone, session, {"version": gone["version"]})
            self._statistics.change(gone, None, session)
        return gone

    def _record(self, action: str, document: Model, session: Session, details: Fields) -> None:
        self._audit.record(
            action, "model", document["_id"], session=session, name=document["name"], details=details
        )

    def count_download(self, model: Model) -> None:
        """Count the start of a download, which does not change the model's revision."""
        self._downloads.count(model)
        if self._hot is not None:
            self._hot.forget([model["_id"]], settle=False)


def derive(document: Model) -> None:
    """Set the derived fields of a new document, and remove empty fields of ABSENT_WHEN_EMPTY."""
    _remove(document, {field for field in ABSENT_WHEN_EMPTY if not document.get(field, True)})
    document["namespace"] = namespace_of(document["name"])
    derived = derived_fields(document)
    document["terms"], document["metric_order"] = derived["terms"], derived["metric_order"]


def _remove(document: Model, absent: Collection[str]) -> None:
    """Remove these fields of ABSENT_WHEN_EMPTY."""
    if "aliases" in absent:
        document.pop("aliases", None)
    if "dataset_ids" in absent:
        document.pop("dataset_ids", None)


def _duplicate(exc: DuplicateKeyError) -> Exception:
    pattern = (exc.details or {}).get("keyPattern", {})
    return DuplicateAlias() if "aliases" in pattern else DuplicateVersion()


def same(one: object, other: object) -> bool:
    """Compare by stored form, since 1, 1.0 and True are equal in Python."""
    return bson_encode({"": one}) == bson_encode({"": other})
