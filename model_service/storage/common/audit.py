"""The audit log: who changed what, written in the transaction of the change."""

from datetime import datetime
from typing import Any

import structlog
from pymongo import DESCENDING

from model_service.actor import actor
from model_service.storage.common.db import Database, Document, Session, now

# Where a page ends: the moment of its last entry, and the entry's id.
Position = tuple[datetime, Any]


class Audit:
    def __init__(self, database: Database) -> None:
        self._audit = database.audit

    def record(
        self,
        action: str,
        kind: str,
        subject_id: Any,
        *,
        session: Session | None,
        name: str | None = None,
        details: Document | None = None,
    ) -> None:
        """Note a change of the caller; see ``entry``."""
        entry = self.entry(action, kind, subject_id, name=name, details=details)
        self._audit.insert_one(entry, session=session)

    def record_all(self, entries: list[Document], session: Session) -> None:
        """Note several changes in one round trip."""
        self._audit.insert_many(entries, session=session)

    @staticmethod
    def entry(
        action: str,
        kind: str,
        subject_id: Any,
        *,
        name: str | None = None,
        details: Document | None = None,
    ) -> Document:
        """What is noted about a change of the caller.

        Args:
            action: a verb in the past: ``created``, ``updated``, ``deleted``, ``alias_set``.
            kind: the resource, in the singular: ``model``, ``dataset``, ``user``.
            name: the resource's own, with its namespace.
            details: what changed; never a secret.
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
            "details": details or {},
        }

    def page(
        self,
        fields: Document,
        since: datetime | None,
        until: datetime | None,
        after: Position | None,
        limit: int,
    ) -> list[Document]:
        """The entries with these values, written in ``[since, until)``, newest first, after ``after``."""
        query = dict(fields)
        period = {operator: at for operator, at in (("$gte", since), ("$lt", until)) if at is not None}
        if period:
            query["at"] = period
        if after is not None:
            at, last = after
            query["$and"] = [{"at": {"$lte": at}}, {"$or": [{"at": {"$lt": at}}, {"_id": {"$lt": last}}]}]
        return list(self._audit.find(query, sort=[("at", DESCENDING), ("_id", DESCENDING)], limit=limit))
