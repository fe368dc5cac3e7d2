"""Users: sign-in, roles and tiers.

API_KEY always authenticates an administrator where authentication is enabled, so no user is the last one.
"""

import secrets
from collections.abc import Callable, Mapping

from typing_extensions import TypedDict

from model_service.actor import (
    RESERVED_NAMES,
    Permission,
    Role,
    actor,
    require,
)
from model_service.errors import Conflict, InvalidField, NotFound, NotPermitted
from model_service.services.access.passwords import hashed, matches
from model_service.services.common.idempotency import Idempotency, Note, Once
from model_service.services.common.paging import Page
from model_service.states import Tier
from model_service.storage.access.documents import RolesInNamespace, User, new_user
from model_service.storage.access.users import DuplicateUser
from model_service.storage.common.db import Session, now
from model_service.storage.common.documents import Fields
from model_service.storage.stores import Stores


class UserChanges(TypedDict, total=False):
    """The fields of a user that a request changes; a password of None removes it."""

    password: str | None
    roles: list[Role]
    namespaces: dict[str, list[Role]]
    disabled: bool
    tier: Tier | None


class UserService:
    def __init__(self, stores: Stores, idempotency: Idempotency, forget: Callable[[], None]) -> None:
        """``forget`` is called after each change, since cached actors may be outdated."""
        self._database = stores.database
        self._users = stores.users
        self._keys = stores.access_keys
        self._webhooks = stores.webhooks
        self._audit = stores.audit
        self._idempotency = idempotency
        self._forget = forget

    def create(
        self,
        *,
        name: str,
        password: str | None,
        roles: list[Role],
        namespaces: Mapping[str, list[Role]],
        disabled: bool,
        tier: Tier | None = None,
        once: Once | None = None,
    ) -> User:
        """Add a user. A user without a password cannot sign in and uses keys that an administrator creates.

        Raises:
            NotPermitted: the caller is not an administrator.
            InvalidField: the name is reserved for the service.
            Conflict: the name is taken.
        """
        require(Permission.ADMIN)
        if name in RESERVED_NAMES:
            raise InvalidField(
                f"{name!r} is reserved for the service: choose another name.",
                [{"field": "name", "message": "reserved"}],
            )
        user = new_user(
            name,
            None if password is None else hashed(password),
            sorted(set(roles)),
            stored_namespaces(namespaces),
            disabled=disabled,
            tier=tier,
            epoch=_new_epoch(),
            at=now(),
        )

        def create(note: Note) -> User:
            def work(session: Session) -> None:
                note(name, session)
                self._users.insert(user, session)
                details = {"roles": user["roles"], "namespaces": user["namespaces"]}
                self._record("created", name, session, details)

            try:
                self._database.transaction(work)
            except DuplicateUser:
                raise Conflict(f"A user {name!r} already exists.", name=name) from None
            return user

        return self._idempotency.run(once, create, self.get)

    def get(self, name: str) -> User:
        """Return a user. Raises: NotPermitted: the caller is not an administrator. NotFound."""
        require(Permission.ADMIN)
        user = self._users.get(name)
        if user is None:
            raise NotFound("user", name)
        return user

    def search(self, page: int, limit: int) -> Page[User]:
        """Return all users by name. Raises: NotPermitted: the caller is not an administrator."""
        require(Permission.ADMIN)
        items, total = self._users.page((page - 1) * limit, limit)
        return Page(items, page, limit, total)

    def update(self, name: str, changes: UserChanges) -> User:
        """Change the fields that are sent; ``password: None`` removes the password.

        A new password, or disabling the user, ends the user's sessions.

        Raises:
            NotPermitted: the caller is not an administrator.
            NotFound.
        """
        require(Permission.ADMIN)
        stored: dict[str, object] = dict(changes)
        if "password" in changes:
            password = changes["password"]
            stored["password"] = None if password is None else hashed(password)
        if "roles" in changes:
            stored["roles"] = sorted(set(changes["roles"]))
        if "namespaces" in changes:
            stored["namespaces"] = stored_namespaces(changes["namespaces"])
        if "password" in changes or changes.get("disabled"):
            stored["epoch"] = _new_epoch()
        shown = {field: value for field, value in changes.items() if field != "password"}
        if "namespaces" in changes:
            shown["namespaces"] = stored["namespaces"]
        return self._update(name, stored, "updated", shown | {"fields": sorted(changes)})

    def change_own_password(self, current: str, wanted: str) -> None:
        """Change the acting user's password; all of the user's sessions end.

        Raises:
            NotPermitted: the caller uses a key or is not a user, or ``current`` is not the password.
        """
        who = actor()
        user = self._users.get(who.name) if who.key_id is None else None
        if user is None:
            raise NotPermitted("Only a user who signed in with a password can change it.")
        if not matches(current, user["password"]):
            raise NotPermitted("The present password is wrong.")
        changes = {"password": hashed(wanted), "epoch": _new_epoch()}
        self._update(who.name, changes, "password_changed", {})

    def delete(self, name: str) -> None:
        """Remove a user with their keys and webhooks; models and other documents of the user stay.

        Raises:
            NotPermitted: the caller is not an administrator.
            NotFound.
        """
        require(Permission.ADMIN)

        def work(session: Session) -> bool:
            if not self._users.delete(name, session):
                return False
            keys = self._keys.delete_of(name, session)
            webhooks = self._webhooks.delete_of(name, session)
            self._record("deleted", name, session, {"keys": keys, "webhooks": webhooks})
            return True

        found = self._database.transaction(work)
        self._forget()
        if not found:
            raise NotFound("user", name)

    def _update(self, name: str, changes: Fields, action: str, shown: Fields) -> User:
        def work(session: Session) -> User | None:
            user = self._users.update(name, {**changes, "updated_at": now()}, session)
            if user is not None:
                self._record(action, name, session, shown)
            return user

        user = self._database.transaction(work)
        self._forget()
        if user is None:
            raise NotFound("user", name)
        return user

    def _record(self, action: str, name: str, session: Session, details: Fields) -> None:
        """Record a change. Namespaces must have their stored form: they may have dots, so cannot be keys."""
        self._audit.record(action, "user", name, session=session, name=name, details=details)


def stored_namespaces(namespaces: Mapping[str, list[Role]]) -> list[RolesInNamespace]:
    return [
        {"namespace": namespace, "roles": sorted(set(roles))}
        for namespace, roles in sorted(namespaces.items())
        if roles
    ]


def _new_epoch() -> str:
    return secrets.token_hex(8)
