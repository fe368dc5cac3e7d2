"""The audit log: who changed what. Entries are written in the transaction of the change."""

from datetime import datetime

import structlog
from pymongo import DESCENDING

from model_service.actor import actor
from model_service.storage.common.db import Database, Session, now
from model_service.storage.common.documents import AuditEntry, Fields, StoredId

# The end of a page: time and id of its last entry.
Position = tuple[datetime, StoredId]


class Audit:
    def __init__(self, database: Database) -> None:
        self._audit = database.audit

    def record(
        self,
        action: str,
        kind: str,
        subject_id: object,
        *,
        session: Session | None,
        name: str | None = None,
        details: Fields | None = None,
    ) -> None:
        """Record a change by the caller; see ``entry``."""
        entry = self.entry(action, kind, subject_id, name=name, details=details)
        self._audit.insert_one(entry, session=session)

    def record_all(self, entries: list[AuditEntry], session: Session) -> None:
        """Record several changes in one round trip."""
        self._audit.insert_many(entries, session=session)

    @staticmethod
    def entry(
        action: str,
        kind: str,
        subject_id: object,
        *,
        name: str | None = None,
        details: Fields | None = None,
    ) -> AuditEntry:
        """Return the entry for a change by the caller.

        Args:
            action: a verb in the past tense: ``created``, ``updated``, ``deleted``, ``alias_set``.
            kind: the resource type, singular: ``model``, ``dataset``, ``user``.
            name: the resource's name with its namespace.
            details: the changed values; never a secret.
        """
        who = actor()
        return {
            "at": now(),
            "actor": who.name,
            "key_id": who.key_id,
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "action": action,
            "kind": kind,
            "subject_id": str(subject_id),
            "name": name,
            "details": dict(details or {}),
        }

    def page(
        self,
        fields: Fields,
        since: datetime | None,
        until: datetime | None,
        after: Position | None,
        limit: int,
    ) -> list[AuditEntry]:
        """Return entries with these values, of ``[since, until)`` and older than ``after``, newest first."""
        query = dict(fields)
        period = {operator: at for operator, at in (("$gte", since), ("$lt", until)) if at is not None}
        if period:
            query["at"] = period
        if after is not None:
            at, last = after
            query["$and"] = [{"at": {"$lte": at}}, {"$or": [{"at": {"$lt": at}}, {"_id": {"$lt": last}}]}]
        return list(self._audit.find(query, sort=[("at", DESCENDING), ("_id", DESCENDING)], limit=limit))

    def of_alias(self, name: str, alias: str, limit: int) -> list[AuditEntry]:
        """Return the newest changes of an alias, its gate and its approvals, newest first."""
        query = {"name": name, "details.alias": alias}
        return list(self._audit.find(query, sort=[("at", DESCENDING), ("_id", DESCENDING)], limit=limit))
