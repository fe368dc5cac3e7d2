"""Users, sessions, keys, namespaces and the audit log."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
)

from model_service.actor import RESERVED_NAMES, Permission, Role
from model_service.api.schemas.common import (
    Answer,
    Body,
    Id,
    JSONObject,
    Limited,
    Moment,
    Name,
    NotNull,
    Paged,
    Pagination,
    Text,
)
from model_service.sentences import pattern
from model_service.services.access.passwords import MAX_LENGTH, MIN_LENGTH
from model_service.states import Tier

Password = Annotated[SecretStr, Field(min_length=MIN_LENGTH, max_length=MAX_LENGTH)]
# A password for signing in. It may be older than the present rules for passwords.
Typed = Annotated[SecretStr, Field(max_length=MAX_LENGTH)]
Namespace = Annotated[
    str,
    pattern(
        r"^([A-Za-z0-9][A-Za-z0-9_.\-]{0,63})?$",
        "the part of a name before its slash, up to 64 letters (A-Z, a-z), digits, '_', '-' and '.'; '' for "
        "names without one",
    ),
]
Roles = Annotated[list[Role], Field(max_length=10)]
NamespaceRoles = Annotated[dict[Namespace, Roles], Field(max_length=1000)]
Scopes = Annotated[list[Permission], Field(min_length=1, max_length=10)]


def _by_namespace(stored: Any) -> Any:
    if isinstance(stored, list):
        return {entry["namespace"]: entry["roles"] for entry in stored}
    return stored


class UserPath(BaseModel):
    name: str


class NewUser(Body):
    name: Name = Field(json_schema_extra={"not": {"enum": [*sorted(RESERVED_NAMES)]}})
    password: Password | None = None
    roles: Roles = []
    namespaces: NamespaceRoles = {}
    disabled: bool = False
    tier: Tier | None = Field(None, description="the limits of the user; null: DEFAULT_TIER")


class UserChanges(Body):
    """Fields that are not sent do not change. ``password: null`` removes the password."""

    password: Password | None = None
    roles: Annotated[Roles | None, NotNull] = None
    namespaces: Annotated[NamespaceRoles | None, NotNull] = None
    disabled: Annotated[bool | None, NotNull] = None
    tier: Tier | None = None


class PasswordChange(Body):
    current_password: Typed
    password: Password


class User(Answer):
    name: str = Field(validation_alias=AliasChoices("_id", "name"))
    roles: list[Role]
    namespaces: Annotated[dict[str, list[Role]], BeforeValidator(_by_namespace)]
    disabled: bool
    tier: Tier | None = None
    created_at: datetime
    updated_at: datetime


class UserPage(BaseModel):
    users: list[User]
    pagination: Pagination


class Whoami(BaseModel):
    """The caller, and the permissions of the request's credential."""

    name: str
    permissions: list[Permission]
    namespaces: dict[str, list[Permission]]
    tier: Tier | None = None
    key_id: str | None


class Credentials(Body):
    user: Annotated[str, Field(min_length=1, max_length=128)]
    password: Typed


class Session(BaseModel):
    token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - how it is sent, and no token
    user: str
    expires_at: datetime


class Done(BaseModel):
    success: Literal[True] = True
    message: str


class KeyPath(BaseModel):
    key_id: str


class NewKey(Body):
    name: Text
    scopes: Scopes
    namespaces: Annotated[list[Namespace], Field(max_length=1000)] | None = None
    expires_at: Moment | None = None
    owner: Name | None = None


class Rotation(Body):
    grace_s: int = Field(0, ge=0, le=30 * 86_400, description="how long the present text remains valid")


class KeyQuery(Paged):
    owner: Name | None = None


class Key(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    name: str
    prefix: str
    owner: str
    scopes: list[Permission]
    namespaces: list[str] | None
    expires_at: datetime | None
    last_used_at: datetime | None
    created_by: str
    created_at: datetime

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "Key":
        return cls.model_validate({**stored, "prefix": stored["secrets"][-1]["prefix"]})


class CreatedKey(Key):
    """The key with its text, which is shown only in this response."""

    key: str


class KeyPage(BaseModel):
    keys: list[Key]
    pagination: Pagination


class ReadableNamespace(BaseModel, from_attributes=True):
    namespace: str
    models: int
    size_bytes: int
    permissions: list[Permission]


class NamespaceList(BaseModel):
    namespaces: list[ReadableNamespace]


class AuditQuery(Limited):
    actor: str | None = Field(None, max_length=128)
    kind: str | None = Field(None, max_length=64)
    subject_id: str | None = Field(None, max_length=256)
    name: str | None = Field(None, max_length=256)
    since: Moment | None = None
    until: Moment | None = None
    cursor: str | None = Field(None, max_length=256)


class AuditEntry(Answer):
    id: Id = Field(validation_alias=AliasChoices("_id", "id"))
    at: datetime
    actor: str
    key_id: str | None = None
    request_id: str | None
    action: str
    kind: str
    subject_id: str
    name: str | None
    details: JSONObject


class AuditLog(BaseModel):
    entries: list[AuditEntry]
    next_cursor: str | None
