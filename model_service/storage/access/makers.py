"""The actors behind users and API keys, with their present permissions."""

from model_service.actor import ADMINISTRATOR, ALL, ROLE_PERMISSIONS, Actor, Permission, Role
from model_service.states import Tier
from model_service.storage.access.documents import AccessKey, User
from model_service.storage.access.keys import AccessKeys
from model_service.storage.access.users import Users
from model_service.storage.common.db import now


class Makers:
    """Finds who made something, by the name from ``actor.maker()``: ``key:ID`` or ``user:NAME``."""

    def __init__(self, users: Users, keys: AccessKeys) -> None:
        self._users = users
        self._keys = keys

    def find(self, maker: str) -> Actor | None:
        """Return the actor; None: the key is gone or has expired, or its owner is gone or disabled."""
        kind, _, name = maker.partition(":")
        if kind != "key":
            return self.user(name)
        key = self._keys.get(name)
        if key is None or (key["expires_at"] is not None and key["expires_at"] <= now()):
            return None
        owner = self.user(key["owner"])
        return None if owner is None else restricted(owner, key)

    def user(self, name: str) -> Actor | None:
        """Return the actor of a user; None: the user is gone or disabled."""
        if name == ADMINISTRATOR.name:
            return ADMINISTRATOR
        user = self._users.get(name)
        return None if user is None or user["disabled"] else actor_of(user)


def actor_of(user: User) -> Actor:
    """Return the actor for a session of this user."""
    return Actor(
        user["_id"],
        everywhere=_permissions(user["roles"]),
        in_namespaces={entry["namespace"]: _permissions(entry["roles"]) for entry in user["namespaces"]},
        tier=Tier(tier) if (tier := user.get("tier")) else None,
    )


def restricted(owner: Actor, key: AccessKey) -> Actor:
    """Return the key's actor: its owner's permissions within the key's scopes and namespaces."""
    scopes = _granted(key["scopes"])
    everywhere, only = owner.everywhere & scopes, key["namespaces"]
    namespaces = owner.in_namespaces if only is None else only
    return Actor(
        owner.name,
        everywhere=everywhere if only is None else frozenset(),
        in_namespaces={
            namespace: (owner.everywhere | owner.in_namespaces.get(namespace, frozenset())) & scopes
            for namespace in namespaces
        },
        key_id=key["_id"],
        tier=owner.tier,
    )


def _permissions(roles: list[str]) -> frozenset[Permission]:
    return frozenset[Permission]().union(*(ROLE_PERMISSIONS[Role(role)] for role in roles))


def _granted(scopes: list[str]) -> frozenset[Permission]:
    """Add what a scope implies: every scope includes ``read``, and ``admin`` includes all."""
    permissions = frozenset(Permission(scope) for scope in scopes)
    if Permission.ADMIN in permissions:
        return ALL
    return permissions | {Permission.READ} if permissions else permissions
