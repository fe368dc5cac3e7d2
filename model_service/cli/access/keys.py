"""``model-service keys``."""

from typing import Annotated

import typer

from model_service.cli.common.options import in_days
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record
from model_service.client import Key

app = typer.Typer(help="API keys: yours, or, for administrators, everybody's.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `keys list` shows it.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read, write, deploy or admin; by default read. Repeat for several.",
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", metavar="NAME", help="Where it holds; by default wherever you may."),
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="How long it holds; by default for ever.")
    ] = None,
    owner: Annotated[str | None, typer.Option(metavar="USER", help="Whose it is; by default yours.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its text is shown once, now: keep it."""
    expires_at = in_days(days)
    key = client_of(context).create_key(
        name, scope or ["read"], namespaces=namespace, expires_at=expires_at, owner=owner
    )
    _show_secret(key, as_json)


@app.command("list")
def list_keys(
    context: typer.Context,
    owner: Annotated[str | None, typer.Option(metavar="USER", help="Of this user only.")] = None,
    page: PageNumber = 1,
    limit: PageSize = None,
    as_json: Json = False,
) -> None:
    """List keys, newest first."""
    found = client_of(context).list_keys(owner=owner, page=page, limit=limit)
    rows = (
        (
            key.id,
            key.name,
            key.prefix,
            key.owner,
            key.scopes,
            "everywhere" if key.namespaces is None else ", ".join(key.namespaces),
            key.expires_at or "never",
            key.last_used_at or "never",
        )
        for key in found
    )
    columns = ("id", "name", "begins with", "owner", "scopes", "where", "expires (UTC)", "last used (UTC)")
    spare = ("begins with", "where", "last used (UTC)", "owner", "expires (UTC)")
    emit(found.raw, as_json, Listing(columns, rows, spare=spare), footer(found))


@app.command()
def rotate(
    context: typer.Context,
    key_id: KeyId,
    grace: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, help="How long its present text works yet.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Give a key another text, shown once, now."""
    _show_secret(client_of(context).rotate_key(key_id, grace_s=grace), as_json)


@app.command()
def revoke(context: typer.Context, key_id: KeyId, as_json: Json = False) -> None:
    """Revoke a key: from now on it opens nothing."""
    emit(client_of(context).delete_key(key_id), as_json, f"Revoked {key_id}.")


def _show_secret(key: Key, as_json: bool) -> None:
    shown = {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "scopes": key.scopes,
        "namespaces": key.namespaces,
        "expires (UTC)": key.expires_at,
        "key (shown once)": key.key,
    }
    emit(key.raw, as_json, Record(shown))
    typer.echo("Keep the key now: it cannot be shown again.", err=True)
