"""Records of users and their credentials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model_service.client.errors import UnexpectedAnswer
from model_service.client.records import Record


@dataclass(frozen=True, kw_only=True)
class Session(Record):
    """A session. ``token`` is sent like a key until ``expires_at``, and never shown in a repr."""

    token: str = field(repr=False)
    user: str
    expires_at: datetime

    parsers = {"expires_at": datetime.fromisoformat}  # noqa: RUF012 - a ClassVar, declared in Record


@dataclass(frozen=True, kw_only=True)
class Whoami(Record):
    """The permissions of the credential that was sent: everywhere, and by namespace."""

    name: str
    permissions: tuple[str, ...] = ()
    namespaces: dict[str, list[str]] = field(default_factory=dict)
    key_id: str | None = None

    parsers = {"permissions": tuple}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class User(Record):
    """A user. ``roles`` apply everywhere, ``namespaces`` maps a namespace to the roles that apply in it."""

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
    """An API key. Its text, ``key``, is set only when it is created or rotated, and never shown in a repr.

    ``namespaces`` None: the key is valid in all namespaces of its owner.
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
    """The part of a name before its slash; empty for names without a slash."""

    namespace: str
    models: int = 0
    size_bytes: int = 0
    permissions: tuple[str, ...] = ()

    parsers = {"permissions": tuple}  # noqa: RUF012


@dataclass(frozen=True, kw_only=True)
class AuditEntry(Record):
    """One change: who made it, with which key, and what was changed."""

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
    """A part of the entries, newest first; ``next_cursor`` requests the entries before them."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str | None
    raw: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AuditLog":
        try:
            entries = tuple(AuditEntry.from_json(entry) for entry in data["entries"])
        except (KeyError, TypeError) as exc:
            raise UnexpectedAnswer(f"The service's response is not an audit log: {exc!r}.") from exc
        return cls(entries=entries, next_cursor=data.get("next_cursor"), raw=data)
