"""/api/v1/users"""

from typing import Any, cast

from flask import Response
from flask_openapi3 import APIBlueprint, Tag
from pydantic import SecretStr

from model_service.actor import Permission, actor
from model_service.api.http.context import answer, page_limit, services
from model_service.api.http.idempotency import mark, requested_once
from model_service.api.http.policy import Caller, policy
from model_service.api.schemas.access import (
    Done,
    NewUser,
    PasswordChange,
    User,
    UserChanges,
    UserPage,
    UserPath,
    Whoami,
)
from model_service.api.schemas.common import Deleted, Paged, Pagination
from model_service.services.access.users import UserChanges as ChangedUser

api = APIBlueprint("users", __name__, url_prefix="/api/v1/users", abp_tags=[Tag(name="access")])


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields with the secret as plain text, for the service that hashes it."""
    return {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value
        for name, value in fields.items()
    }


@api.post("", responses={201: User})
@policy(Permission.ADMIN, everywhere=True)
def create_user(body: NewUser) -> Response:
    """Create a user.

    Without a `password` it is a machine's user, which has only keys. `Idempotency-Key` is supported. For
    administrators.
    """
    once = requested_once(without="password")
    user = services().users.create(**_plain(body.model_dump()), once=once)
    return mark(answer(User.model_validate(user), 201), once)


@api.get("", responses={200: UserPage})
@policy(Permission.ADMIN, everywhere=True)
def list_users(query: Paged) -> Response:
    """List users.

    A page, sorted by name. For administrators.
    """
    page = services().users.search(query.page, page_limit(query))
    users = [User.model_validate(item) for item in page.items]
    return answer(UserPage(users=users, pagination=Pagination.of(page)))


@api.get("/me", responses={200: Whoami})
@policy(Caller.IDENTIFIED)
def whoami() -> Response:
    """Read the caller's identity and permissions.

    Returns the user, the permissions everywhere and per namespace, and the key, if the request was made
    with one.
    """
    caller = actor()
    body = Whoami(
        name=caller.name,
        permissions=sorted(caller.everywhere),
        namespaces={
            namespace: sorted(permissions, key=list(Permission).index)
            for namespace, permissions in sorted(caller.in_namespaces.items())
        },
        tier=caller.tier,
        key_id=caller.key_id,
    )
    return answer(body)


@api.post("/me/password", responses={200: Done})
@policy(Caller.IDENTIFIED, rate="login")
def change_own_password(body: PasswordChange) -> Response:
    """Change the caller's password.

    Needs `current_password`. All sessions of the caller end, also the one of this request.
    """
    services().users.change_own_password(
        body.current_password.get_secret_value(), body.password.get_secret_value()
    )
    return answer(Done(message="Password changed; sign in again"))


@api.get("/<name>", responses={200: User})
@policy(Permission.ADMIN, everywhere=True)
def get_user(path: UserPath) -> Response:
    """Read a user.

    For administrators.
    """
    return answer(User.model_validate(services().users.get(path.name)))


@api.patch("/<name>", responses={200: User})
@policy(Permission.ADMIN, everywhere=True)
def update_user(path: UserPath, body: UserChanges) -> Response:
    """Change some fields of a user.

    A new password, or `disabled`, ends the user's sessions; `disabled` stops the user's keys as well. Takes
    effect in every process within 2 seconds. For administrators.
    """
    changes = cast(ChangedUser, _plain(body.model_dump(exclude_unset=True)))
    return answer(User.model_validate(services().users.update(path.name, changes)))


@api.delete("/<name>", responses={200: Deleted})
@policy(Permission.ADMIN, everywhere=True)
def delete_user(path: UserPath) -> Response:
    """Delete a user.

    Deletes the user's keys too. Models and other objects that the user created stay. For administrators.
    """
    services().users.delete(path.name)
    return answer(Deleted(message="User deleted successfully", deleted_id=path.name))
