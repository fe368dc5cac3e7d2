"""The documents of users, API keys and revoked sessions."""

import uuid
from datetime import datetime

from typing_extensions import TypedDict


class RolesInNamespace(TypedDict):
    namespace: str
    roles: list[str]


class PasswordHash(TypedDict):
    """The scrypt hash of a password with its salt and its parameters."""

    scrypt: bytes
    salt: bytes
    n: int
    r: int
    p: int


class User(TypedDict):
    """``_id`` is the user's name. A session contains the ``epoch``: a new one ends all sessions."""

    _id: str
    password: PasswordHash | None
    roles: list[str]
    namespaces: list[RolesInNamespace]
    disabled: bool
    tier: str | None
    epoch: str
    created_at: datetime
    updated_at: datetime


class KeySecret(TypedDict):
    prefix: str
    sha256: str
    expires_at: datetime | None


class AccessKey(TypedDict):
    """``secrets`` has the present secret last, after a rotated one whose grace time has not ended."""

    _id: str
    name: str
    owner: str
    scopes: list[str]
    namespaces: list[str] | None
    secrets: list[KeySecret]
    expires_at: datetime | None
    last_used_at: datetime | None
    created_by: str
    created_at: datetime


def new_user(
    name: str,
    password: PasswordHash | None,
    roles: list[str],
    namespaces: list[RolesInNamespace],
    *,
    disabled: bool,
    tier: str | None,
    epoch: str,
    at: datetime,
) -> User:
    return {
        "_id": name,
        "password": password,
        "roles": roles,
        "namespaces": namespaces,
        "disabled": disabled,
        "tier": tier,
        "epoch": epoch,
        "created_at": at,
        "updated_at": at,
    }


def new_access_key(
    name: str,
    owner: str,
    scopes: list[str],
    namespaces: list[str] | None,
    *,
    expires_at: datetime | None,
    created_by: str,
    at: datetime,
) -> AccessKey:
    """Return a key without a secret."""
    return {
        "_id": str(uuid.uuid4()),
        "name": name,
        "owner": owner,
        "scopes": scopes,
        "namespaces": namespaces,
        "secrets": [],
        "expires_at": expires_at,
        "last_used_at": None,
        "created_by": created_by,
        "created_at": at,
    }


class RevokedSession(TypedDict):
    _id: str
    expires_at: datetime
