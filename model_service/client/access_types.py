"""What the service answers about people and their credentials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model_service.client.errors import UnexpectedAnswer
from model_service.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Session(Record):
    """``token`` is sent as a key is, until ``expires_at``; never in a repr."""

    token: str = field(repr=False)
    user: str
    expires_at: datetime

    parsers = {"expires_at": datetime.fromisoformat}  # noqa: RUF012 - a ClassVar, declared in Record


@dataclass(frozen=True, kw_only=True)
class Whoami(Record):
    """What may be done with the credential that was sent: everywhere, and by namespace."""

    name: str
    permissions: tuple[str, ...] = ()
    namespaces: dict[str, list[str]] = field(default_factory=dict)
    key_id: str | None = None

    parsers = {"permissions": tuple}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class User(Record):
    """``roles`` hold everywhere, ``namespaces`` maps a namespace to the roles that hold in it."""

    name: str
    roles: tuple[str, ...] = ()
    namespaces: dict[str, list[str]] = field(default_factory=dict)
    disabled: bool = False
    tier: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    parsers = {  # noqa: RUF012
        "roles": tuple,
        "created_at": datetime.fromisoformat,
        "updated_at": datetime.fromisoformat,
    }


@dataclass(frozen=True, kw_only=True)
class Key(Record):
    """``key``, its text, is there only on the answer to its creation or rotation, and never in a repr.

    ``namespaces`` None: it holds wherever its owner does.
    """

    id: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    key: str | None = field(default=None, repr=False)
    prefix: str | None = None
    namespaces: tuple[str, ...] | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    created_by: str | None = None
    created_at: datetime | None = None

    parsers = {  # noqa: RUF012
        "scopes": tuple,
        "namespaces": tuple,
        "expires_at": datetime.fromisoformat,
        "last_used_at": datetime.fromisoformat,
        "created_at": datetime.fromisoformat,
    }


@dataclass(frozen=True, kw_only=True)
class Namespace(Record):
    """The part of a name before its slash; empty for names without one."""

    namespace: str
    models: int = 0
    size_bytes: int = 0
    permissions: tuple[str, ...] = ()

    parsers = {"permissions": tuple}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class AuditEntry(Record):
    """One change: who did it, with which key, to what."""

    id: str
    at: datetime
    actor: str
    action: str
    kind: str
    subject_id: str
    name: str | None = None
    key_id: str | None = None
    request_id: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    parsers = {"at": datetime.fromisoformat}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class AuditLog:
    """Some entries, newest first; ``next_cursor`` asks for those before them."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AuditLog":
        try:
            entries = tuple(AuditEntry.from_json(entry) for entry in data["entries"])
        except (KeyError, TypeError) as exc:
            raise UnexpectedAnswer(f"The service's answer is no audit log: {exc!r}.") from exc
        return cls(entries=entries, next_cursor=data.get("next_cursor"), raw=data)
