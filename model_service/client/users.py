"""Calls on access: sessions, users, namespaces, and the audit log."""

from collections.abc import Mapping, Sequence
from typing import Any

from model_service.client.access_types import AuditLog, Namespace, Session, User, Whoami
from model_service.client.calls import Calls
from model_service.client.errors import UnexpectedAnswer
from model_service.client.records import Page
from model_service.client.transport.http import segment

USERS = "/api/v1/users"
SESSIONS = "/api/v1/sessions"


class UserCalls(Calls):
    def login(self, user: str, password: str) -> Session:
        """Sign in: this client's later requests are the user's, until the session ends.

        Raises:
            Unauthorized: no such user, or a wrong password.
        """
        session = Session.from_json(
            self._transport.json("POST", SESSIONS, data={"user": user, "password": password})
        )
        self._transport.use_key(session.token)
        return session

    def logout(self) -> None:
        """End the session; afterwards this client has no credential."""
        self._transport.json("DELETE", f"{SESSIONS}/current")
        self._transport.use_key(None)

    def whoami(self) -> Whoami:
        return Whoami.from_json(self._transport.json("GET", f"{USERS}/me"))

    def change_password(self, current_password: str, password: str) -> None:
        """Change the signed-in user's password. All of the user's sessions end: sign in again."""
        data = {"current_password": current_password, "password": password}
        self._transport.json("POST", f"{USERS}/me/password", data=data)

    def create_user(
        self,
        name: str,
        *,
        password: str | None = None,
        roles: Sequence[str] = (),
        namespaces: Mapping[str, Sequence[str]] | None = None,
        disabled: bool = False,
        tier: str | None = None,
    ) -> User:
        """Create a user, as an administrator. Without a password it is a machine's user, with keys only.

        Args:
            roles: reader, writer, deployer, admin; they apply everywhere.
            namespaces: roles that apply in one namespace only.
            tier: free, pro or enterprise: limits such as the number of exports; None: the service's default.

        Raises:
            Conflict: there is a user with this name.
        """
        data: dict[str, Any] = {"name": name, "roles": list(roles), "disabled": disabled}
        data["namespaces"] = {namespace: list(held) for namespace, held in (namespaces or {}).items()}
        data |= {name: value for name, value in (("password", password), ("tier", tier)) if value is not None}
        return User.from_json(self._transport.create(USERS, data))

    def get_user(self, name: str) -> User:
        return User.from_json(self._transport.json("GET", _url(name)))

    def list_users(self, *, page: int | None = None, limit: int | None = None) -> Page[User]:
        return self._page(USERS, "users", User, {"page": page, "limit": limit})

    def update_user(self, name: str, **changes: Any) -> User:
        """Change password, roles, namespaces, disabled, tier. A new password ends the user's sessions."""
        return User.from_json(self._transport.json("PATCH", _url(name), data=changes))

    def delete_user(self, name: str) -> dict[str, Any]:
        """Delete a user and its keys; the user's models and other objects are kept.

        NotFound may mean that an earlier try, whose response was lost, deleted it.
        """
        return self._transport.json("DELETE", _url(name))

    def list_namespaces(self) -> list[Namespace]:
        """Return the namespaces that this credential can read, and its permissions in each."""
        answer = self._transport.json("GET", "/api/v1/namespaces")
        if not isinstance(answer.get("namespaces"), list):
            raise UnexpectedAnswer("The service's response is not a list of namespaces.")
        return [Namespace.from_json(each) for each in answer["namespaces"]]

    def read_audit_log(
        self, *, limit: int | None = None, cursor: str | None = None, **filters: Any
    ) -> AuditLog:
        """Return changes, newest first. Filters: actor, kind, subject_id, name, since, until (RFC 3339)."""
        query = {"limit": limit, "cursor": cursor, **filters}
        return AuditLog.from_json(self._transport.json("GET", "/api/v1/audit", query=query))


def _url(name: str) -> str:
    return f"{USERS}/{segment(name)}"
