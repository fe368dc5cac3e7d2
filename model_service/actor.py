"""The actor: the caller of a request or a job, used by permission checks and the audit log.

Outside a request the actor is the service itself, with all permissions. A name like ``vision/yolo`` is in the
namespace ``vision``; a name without a slash is in the namespace ``""``.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from model_service.errors import NotPermitted
from model_service.states import Tier


class Permission(StrEnum):
    READ = "read"
    WRITE = "write"
    DEPLOY = "deploy"
    ADMIN = "admin"


ALL = frozenset(Permission)


class Role(StrEnum):
    READER = "reader"
    WRITER = "writer"
    DEPLOYER = "deployer"
    ADMIN = "admin"


ROLE_PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.READER: frozenset({Permission.READ}),
    Role.WRITER: frozenset({Permission.READ, Permission.WRITE}),
    Role.DEPLOYER: frozenset({Permission.READ, Permission.DEPLOY}),
    Role.ADMIN: ALL,
}


@dataclass(frozen=True)
class Actor:
    """A caller with its permissions.

    Args:
        key_id: id of the API key in the request, which may have fewer permissions than its owner.
        tier: the user's tier; None: DEFAULT_TIER.
    """

    name: str
    everywhere: frozenset[Permission] = frozenset()
    in_namespaces: Mapping[str, frozenset[Permission]] = field(default_factory=dict)
    key_id: str | None = None
    tier: Tier | None = None

    def may(self, permission: Permission, namespace: str) -> bool:
        return permission in self.everywhere or permission in self.in_namespaces.get(namespace, ())

    def may_somewhere(self, permission: Permission) -> bool:
        """Return whether the actor has the permission in any namespace."""
        return permission in self.everywhere or any(
            permission in granted for granted in self.in_namespaces.values()
        )

    def readable_namespaces(self) -> list[str] | None:
        """Return the namespaces that the actor may read; None: all."""
        if Permission.READ in self.everywhere:
            return None
        return sorted(name for name, granted in self.in_namespaces.items() if Permission.READ in granted)


SERVICE = Actor("service", everywhere=ALL)
# The holder of API_KEY, and the callers of a service without authentication. Users cannot have these names.
ADMINISTRATOR = Actor("administrator", everywhere=ALL)
ANONYMOUS = Actor("anonymous", everywhere=ALL)
RESERVED_NAMES = frozenset({SERVICE.name, ADMINISTRATOR.name, ANONYMOUS.name, "signed-url", "me"})
_current: ContextVar[Actor] = ContextVar("actor", default=SERVICE)


def actor() -> Actor:
    """Return the current actor."""
    return _current.get()


@contextmanager
def acting_as(who: Actor) -> Iterator[None]:
    token = _current.set(who)
    try:
        yield
    finally:
        _current.reset(token)


def creator(sent: str | None) -> str | None:
    """Return ``created_by`` for a new record: the caller, or the sent value without authentication."""
    return sent if actor().name in (SERVICE.name, ANONYMOUS.name) else actor().name


def maker() -> str:
    """Return the name that a signed URL has for the caller who signs it: ``key:ID`` or ``user:NAME``."""
    who = actor()
    return f"key:{who.key_id}" if who.key_id else f"user:{who.name}"


def namespace_of(name: str) -> str:
    return name.rpartition("/")[0]


def may_read(name: str) -> bool:
    """Return whether the caller may read objects of that name; unreadable ones are reported as missing."""
    return actor().may(Permission.READ, namespace_of(name))


def require(permission: Permission, name: str | None = None) -> None:
    """Check that the caller has the permission for the object of that name; without a name, everywhere.

    Raises:
        NotPermitted: the caller does not have it.
    """
    who = actor()
    if permission in who.everywhere or (name is not None and who.may(permission, namespace_of(name))):
        return
    where = f" in the namespace {namespace_of(name)!r}" if name is not None and namespace_of(name) else ""
    raise NotPermitted(
        f"{who.name!r} lacks the permission {permission.value!r}{where}. An administrator can grant it.",
        permission=permission.value,
        namespace=namespace_of(name) if name is not None else None,
    )
