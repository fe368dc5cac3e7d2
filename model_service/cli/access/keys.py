"""``model-service keys``."""

from typing import Annotated

import typer

from model_service.cli.common.options import in_days
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record
from model_service.client import Key

app = typer.Typer(help="API keys: your own; for administrators, those of all users.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `keys list` shows it.")]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The purpose of the key.")],
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read, write, deploy or admin; by default read. Repeat it for several.",
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            "--namespace",
            metavar="NAME",
            help="A namespace that the key is limited to; by default all of yours. Repeat it for more.",
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(metavar="N", min=0, help="Days until the key expires; by default it does not expire."),
    ] = None,
    owner: Annotated[
        str | None, typer.Option(metavar="USER", help="The owner of the key; by default you.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a key. Store its text: it is shown only once."""
    expires_at = in_days(days)
    key = client_of(context).create_key(
        name, scope or ["read"], namespaces=namespace, expires_at=expires_at, owner=owner
    )
    _show_secret(key, as_json)


@app.command("list")
def list_keys(
    context: typer.Context,
    owner: Annotated[str | None, typer.Option(metavar="USER", help="Only keys of this user.")] = None,
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
        int, typer.Option(metavar="SECONDS", min=0, help="How long the present text remains valid.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Replace the text of a key. Store the new text: it is shown only once."""
    _show_secret(client_of(context).rotate_key(key_id, grace_s=grace), as_json)


@app.command()
def revoke(context: typer.Context, key_id: KeyId, as_json: Json = False) -> None:
    """Revoke a key: it is not valid any more."""
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
    typer.echo("Store the key now: it cannot be shown again.", err=True)
