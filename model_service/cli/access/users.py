"""``model-service users``."""

from typing import Annotated

import typer

from model_service.cli.access.access import PasswordStdin, read_password
from model_service.cli.common.options import given
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record
from model_service.client import User

app = typer.Typer(help="Users and their roles; for administrators.", no_args_is_help=True)

UserName = Annotated[str, typer.Argument(metavar="USER", help="The user's name.")]
RoleNames = Annotated[
    list[str] | None,
    typer.Option(
        "--role", metavar="ROLE", help="A role in all namespaces: reader, writer, deployer or admin."
    ),
]
NamespaceRoles = Annotated[
    list[str] | None,
    typer.Option(
        "--namespace-role", metavar="NAMESPACE=ROLE", help="A role in one namespace; repeat it for several."
    ),
]


TierName = Annotated[
    str | None,
    typer.Option("--tier", metavar="TIER", help="The limits of the user: free, pro or enterprise."),
]


@app.command()
def create(
    context: typer.Context,
    name: UserName,
    role: RoleNames = None,
    namespace_role: NamespaceRoles = None,
    machine: Annotated[
        bool, typer.Option("--machine", help="Create the user without a password, for use with keys only.")
    ] = False,
    tier: TierName = None,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Create a user. A prompt reads the password."""
    roles = _by_namespace(namespace_role)
    password = None if machine else read_password(password_stdin, f"Password for {name}", twice=True)
    made = client_of(context).create_user(
        name, password=password, roles=role or (), namespaces=roles, tier=tier
    )
    if not (role or roles):
        hint = f"{name} has no role and so no permission: `model-service users update {name} --role reader`."
        typer.echo(hint, err=True)
    _show(made, as_json)


@app.command("list")
def list_users(
    context: typer.Context, page: PageNumber = 1, limit: PageSize = None, as_json: Json = False
) -> None:
    """List the users by name."""
    found = client_of(context).list_users(page=page, limit=limit)
    rows = (
        (
            user.name,
            user.roles,
            ", ".join(f"{where or '(none)'}={'+'.join(held)}" for where, held in user.namespaces.items()),
            "disabled" if user.disabled else "enabled",
            user.created_at,
        )
        for user in found
    )
    columns = ("name", "roles", "in namespaces", "state", "created (UTC)")
    emit(found.raw, as_json, Listing(columns, rows, spare=("created (UTC)",)), footer(found))


@app.command()
def get(context: typer.Context, name: UserName, as_json: Json = False) -> None:
    """Show one user."""
    _show(client_of(context).get_user(name), as_json)


@app.command()
def update(
    context: typer.Context,
    name: UserName,
    role: RoleNames = None,
    namespace_role: NamespaceRoles = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="A disabled user cannot sign in or use keys.")
    ] = None,
    tier: TierName = None,
    new_password: Annotated[
        bool, typer.Option("--password", help="Read a new password from a prompt; the user's sessions end.")
    ] = False,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Change a user. --role replaces all roles, --namespace-role replaces all roles in namespaces."""
    fields = {
        "roles": role,
        "namespaces": None if namespace_role is None else _by_namespace(namespace_role),
        "disabled": disabled,
        "tier": tier,
    }
    changes = given(fields)
    if new_password or password_stdin:
        changes["password"] = read_password(password_stdin, f"New password for {name}", twice=True)
    if not changes:
        raise typer.BadParameter("nothing to change: give --role, --disable, --password or another option")
    _show(client_of(context).update_user(name, **changes), as_json)


@app.command()
def password(context: typer.Context) -> None:
    """Change your own password. All of your sessions end."""
    current = read_password(False, "Current password")
    client_of(context).change_password(current, read_password(False, "New password", twice=True))
    typer.echo("Password changed: sign in again with `model-service login`.", err=True)


@app.command()
def delete(context: typer.Context, name: UserName, as_json: Json = False) -> None:
    """Remove a user and its keys; the user's models and other objects stay."""
    emit(client_of(context).delete_user(name), as_json, f"Deleted {name}.")


def _by_namespace(given_roles: list[str] | None) -> dict[str, list[str]]:
    """Parse NAMESPACE=ROLE. Raises typer.BadParameter."""
    roles: dict[str, list[str]] = {}
    for text in given_roles or ():
        namespace, equals, role = text.partition("=")
        if not equals or not role:
            raise typer.BadParameter(
                f"{text!r} is not of the form NAMESPACE=ROLE, like vision=writer",
                param_hint="--namespace-role",
            )
        roles.setdefault(namespace, []).append(role)
    return roles


def _show(user: User, as_json: bool) -> None:
    shown = {
        "name": user.name,
        "roles": user.roles,
        "namespaces": "\n".join(
            f"{where or '(none)'}  {', '.join(held)}" for where, held in user.namespaces.items()
        ),
        "state": "disabled" if user.disabled else "enabled",
        "tier": user.tier,
        "created (UTC)": user.created_at,
        "changed (UTC)": user.updated_at,
    }
    emit(user.raw, as_json, Record(shown))
