"""Search of the audit log, for administrators."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from model_service.actor import Permission, require
from model_service.errors import InvalidField
from model_service.services.common.paging import cursor_of, position_of
from model_service.storage.common.audit import Audit, Position
from model_service.storage.common.db import object_id
from model_service.storage.common.documents import AuditEntry


@dataclass(frozen=True)
class AuditPage:
    entries: list[AuditEntry]
    next_cursor: str | None


class AuditService:
    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def search(
        self,
        fields: Mapping[str, str],
        *,
        since: datetime | None,
        until: datetime | None,
        cursor: str | None,
        limit: int,
    ) -> AuditPage:
        """Return the entries with these values, written in ``[since, until)``, newest first.

        ``cursor`` is the ``next_cursor`` of the page before.

        Raises:
            NotPermitted: the caller is not an administrator.
            InvalidField: the cursor is invalid.
        """
        require(Permission.ADMIN)
        after = _position(cursor) if cursor is not None else None
        found = self._audit.page(
            dict(fields), since, until, after, limit + 1
        )  # one more shows whether there is a next page
        entries = found[:limit]
        more = len(found) > limit
        return AuditPage(entries, _cursor(entries[-1]) if more else None)


def _cursor(entry: AuditEntry) -> str:
    return cursor_of([round(entry["at"].timestamp() * 1000), str(entry["_id"])])


def _position(cursor: str) -> Position:
    try:
        at_ms, entry_id = position_of(cursor)
        if not isinstance(at_ms, int | float | str):
            raise TypeError
        at, last = datetime.fromtimestamp(int(at_ms) / 1000, UTC), object_id(str(entry_id))
    except (ValueError, TypeError, OverflowError, OSError):
        last = None
    if last is None:
        raise InvalidField.of("cursor", "not a next_cursor of this list")
    return at, last
