"""``model-service login | logout | whoami | namespaces | audit``."""

import sys
from contextlib import suppress
from typing import Annotated

import typer

from model_service.cli.access import session_store
from model_service.cli.common.options import given
from model_service.cli.common.output import Json, PageSize, client_of, emit
from model_service.cli.common.tables import Listing, Record, size
from model_service.client import ModelServiceClient, Unauthorized

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


def read_password(from_stdin: bool, prompt: str = "Password", *, twice: bool = False) -> str:
    """Read a password from a hidden prompt or standard input, never from an argument."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


def login(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="The name of the user.")],
    password_stdin: PasswordStdin = False,
) -> None:
    """Sign in: later commands to this service run as this user, until the session expires."""
    client = client_of(context)
    try:
        session = client.login(user, read_password(password_stdin))
    except Unauthorized as exc:
        exc.add_note("Nothing was kept.")
        raise
    session_store.keep(client.base_url, session)
    emit({}, False, f"Signed in as {session.user} until {session.expires_at:%Y-%m-%d %H:%M} UTC.")
    typer.echo(f"The session is stored in {session_store.session_file()}.", err=True)


def logout(context: typer.Context) -> None:
    """End the session, and remove it from this machine."""
    url = client_of(context).base_url
    token = session_store.stored_token(url)
    if token is not None:
        # Not --api-key: the session is ended. It may have ended already.
        with ModelServiceClient(url, api_key=token) as client, suppress(Unauthorized):
            client.logout()
    session_store.forget(url)
    emit({}, False, "Not signed in." if token is None else "Signed out.")


def whoami(context: typer.Context, as_json: Json = False) -> None:
    """Show your user and your permissions."""
    who = client_of(context).whoami()
    shown = {
        "name": who.name,
        "key": who.key_id,
        "permissions": who.permissions,
        "namespaces": "\n".join(
            f"{namespace or '(none)'}  {', '.join(held)}" for namespace, held in who.namespaces.items()
        ),
    }
    emit(who.raw, as_json, Record(shown))


def namespaces(context: typer.Context, as_json: Json = False) -> None:
    """List the namespaces that you can read, and your permissions in each."""
    found = client_of(context).list_namespaces()
    rows = (
        (each.namespace or "(none)", each.models, size(each.size_bytes), each.permissions) for each in found
    )
    shown = Listing(("namespace", "models", "size", "permissions"), rows)
    emit({"namespaces": [dict(each.raw) for each in found]}, as_json, shown)


def audit(
    context: typer.Context,
    limit: PageSize = None,
    cursor: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The cursor of the previous page.")
    ] = None,
    actor: Annotated[str | None, typer.Option(metavar="USER", help="Only changes by this user.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Only changes of this kind of object: model, user, key, …"),
    ] = None,
    subject_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Only changes of the object with this id.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only changes of objects with this name.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Changes from this time on, for example 2027-01-31T00:00:00Z."),
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Changes before this time.")] = None,
    as_json: Json = False,
) -> None:
    """Show the audit log, newest first; for administrators."""
    filters = {
        "actor": actor,
        "kind": kind,
        "subject_id": subject_id,
        "name": name,
        "since": since,
        "until": until,
    }
    log = client_of(context).read_audit_log(limit=limit, cursor=cursor, **given(filters))
    rows = (
        (entry.at, entry.actor, entry.action, entry.kind, entry.name, entry.subject_id)
        for entry in log.entries
    )
    columns = ("at (UTC)", "who", "action", "kind", "name", "id")
    more = f" Next: --cursor {log.next_cursor}" if log.next_cursor else ""
    shown = Listing(columns, rows, spare=("id", "kind"))
    emit(log.raw, as_json, shown, f"{len(log.entries)} entries.{more}")
