"""The audit log: who changed what, written in the transaction of the change."""

from typing import Any

import structlog

from model_service.actor import actor
from model_service.storage.db import Database, Document, Session, now


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
        """Note a change of whoever acts.

        Args:
            action: a verb in the past: ``created``, ``updated``, ``deleted``, ``alias_set``.
            kind: the resource, in the singular: ``model``, ``dataset``, ``user``.
            name: the resource's own, with its namespace.
            details: what changed; never a secret.
        """
        entry = {
            "at": now(),
            "actor": actor().name,
            "request_id": structlog.contextvars.get_contextvars().get("request_id"),
            "action": action,
            "kind": kind,
            "subject_id": str(subject_id),
            "name": name,
            "details": details or {},
        }
        self._audit.insert_one(entry, session=session)
