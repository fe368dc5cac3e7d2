"""Creation of model versions; concurrent ones share a transaction."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from pymongo.errors import BulkWriteError, PyMongoError

from model_service.storage.common.audit import Audit
from model_service.storage.common.collections import rows
from model_service.storage.common.db import CONNECTION_ERRORS, Database, Session
from model_service.storage.common.documents import AuditEntry, Fields, NewEvent
from model_service.storage.common.group_commit import GroupCommit
from model_service.storage.common.outbox import Outbox
from model_service.storage.models.documents import HighestOrder, Model, NumberedVersion, set_number
from model_service.storage.models.events import transitions
from model_service.storage.models.models import derive
from model_service.storage.statistics.counters import Counters
from model_service.storage.versioned.records import DuplicateVersion
from model_service.storage.versioned.version_numbers import VersionNumbers
from model_service.storage.versioned.versions import RetiredVersion

# Returns the version, given the highest order of the name, or None.
Number = Callable[[int | None], NumberedVersion]

_DUPLICATE_KEY = 11000


@dataclass(frozen=True)
class _Creation:
    document: Model
    number: Number | None
    audit: AuditEntry

    def events(self) -> Iterator[NewEvent]:
        entry = self.audit
        return transitions(entry["action"], None, self.document, entry["details"], by=entry["actor"])


class Creations:
    def __init__(
        self,
        database: Database,
        audit: Audit,
        numbers: VersionNumbers,
        counters: Counters,
        outbox: Outbox,
    ) -> None:
        self._db = database
        self._models = database.models
        self._audit = audit
        self._numbers = numbers
        self._statistics = counters
        self._outbox = outbox
        self._group = GroupCommit(self._commit)

    def create(self, document: Model, number: Number | None) -> None:
        """Store a new document that needs no other change, in a transaction shared with concurrent calls.

        Args:
            document: as for ``Models.insert``, without aliases.
            number: returns the version fields, which are set on the document; None if it has a version.

        Raises:
            DuplicateVersion: the name has that version already.
            RetiredVersion: a removed version of the name had that number.
            ModelServiceError: an error of ``number``.
        """
        derive(document)
        audit = self._audit.entry("created", "model", document["_id"], name=document["name"])
        self._group.run(_Creation(document, number, audit))

    def _commit(self, creations: Sequence[_Creation]) -> list[Exception | None]:
        """Store all together or, if one of them cannot be stored, each separately."""
        while True:
            try:
                self._give_numbers(creations)
                self._db.transaction(lambda session: self._insert(creations, session))
                return [None] * len(creations)
            except CONNECTION_ERRORS:
                raise  # it may have been committed after all
            except Exception as error:
                if _may_be_committed(error):
                    raise
                if len(creations) > 1:
                    return [each for creation in creations for each in self._commit([creation])]
                if creations[0].number is None or not isinstance(error, DuplicateVersion):
                    return [error]
                # Another process took the number meanwhile.

    def _give_numbers(self, creations: Sequence[_Creation]) -> None:
        newest = self._newest({one.document["name"] for one in creations if one.number is not None})
        for creation in creations:
            document = creation.document
            if creation.number is not None:
                set_number(document, creation.number(newest.get(document["name"])))
                newest[document["name"]] = document["version_order"]
            creation.audit["details"] = {"version": document["version"]}

    def _newest(self, names: Collection[str]) -> dict[str, int]:
        """Return the highest order that each name has or ever had, with one index seek each."""
        highest: list[Fields] = [
            {"$match": {"name": {"$in": sorted(names)}}},
            {"$sort": {"name": 1, "version_order": -1}},
            {"$group": {"_id": "$name", "order": {"$first": "$version_order"}}},
        ]
        # Removed versions are read second, since they include versions removed in between.
        removed = self._numbers.union("model", names)
        newest: dict[str, int] = {}
        if names:
            for found in rows(self._models.aggregate([*highest, removed]), HighestOrder):
                newest[found["_id"]] = max(found["order"], newest.get(found["_id"], 0))
        return newest

    def _insert(self, creations: Sequence[_Creation], session: Session) -> None:
        documents = [creation.document for creation in creations]
        if self._numbers.given("model", documents, session):
            raise RetiredVersion
        try:
            self._models.insert_many(documents, session=session)
        except BulkWriteError as exc:
            if all(error["code"] == _DUPLICATE_KEY for error in exc.details["writeErrors"]):
                raise DuplicateVersion from None
            raise
        self._audit.record_all([creation.audit for creation in creations], session)
        self._statistics.add(documents, session)
        self._outbox.record(lambda: [event for creation in creations for event in creation.events()], session)


def _may_be_committed(error: Exception) -> bool:
    return isinstance(error, PyMongoError) and error.has_error_label("UnknownTransactionCommitResult")
