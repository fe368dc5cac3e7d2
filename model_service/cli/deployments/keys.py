"""``model-service deployments keys``."""

from typing import Annotated

import typer

from model_service.cli.common.options import in_days
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import Listing, Record
from model_service.cli.deployments import options as options
from model_service.cli.deployments.kept_keys import keep_key
from model_service.client import DeploymentKey

app = typer.Typer(help="The keys for a deployment's endpoint.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, as `keys list` shows it.")]


@app.command()
def create(
    context: typer.Context,
    deployment: options.Deployment,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The owner or the purpose of the key.")],
    days: Annotated[
        float | None,
        typer.Option(metavar="N", min=0, help="Days until the key expires; by default it does not expire."),
    ] = None,
    keep: options.Keep = False,
    as_json: Json = False,
) -> None:
    """Create another key. Store its text: it is shown only once."""
    client = client_of(context)
    expires_at = in_days(days)
    key = client.create_deployment_key(deployment, name, expires_at=expires_at)
    _show_secret(key, keep, as_json)


@app.command("list")
def list_keys(context: typer.Context, deployment: options.Deployment, as_json: Json = False) -> None:
    """List a deployment's keys, newest first."""
    client = client_of(context)
    found = client.list_deployment_keys(deployment)
    rows = (
        (key.id, key.name, key.prefix, key.expires_at or "never", key.last_used_at or "never", key.created_at)
        for key in found
    )
    columns = ("id", "name", "begins with", "expires (UTC)", "last used (UTC)", "created (UTC)")
    shown = Listing(columns, rows, spare=("created (UTC)", "begins with", "last used (UTC)"))
    emit({"keys": [key.raw for key in found]}, as_json, shown)


@app.command()
def rotate(
    context: typer.Context,
    deployment: options.Deployment,
    key_id: KeyId,
    grace: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, help="How long the present key remains valid.")
    ] = 0,
    keep: options.Keep = False,
    as_json: Json = False,
) -> None:
    """Replace a key by a new one. Store the new one: it is shown only once."""
    client = client_of(context)
    key = client.rotate_deployment_key(deployment, key_id, grace_s=grace)
    _show_secret(key, keep, as_json)


@app.command()
def revoke(
    context: typer.Context, deployment: options.Deployment, key_id: KeyId, as_json: Json = False
) -> None:
    """Revoke a key: it is not valid any more."""
    client = client_of(context)
    answer = client.revoke_deployment_key(deployment, key_id)
    emit(answer, as_json, f"Revoked {key_id}.")


def _show_secret(key: DeploymentKey, keep: bool, as_json: bool) -> None:
    if keep and key.key is not None and key.deployment_id is not None:
        keep_key(key.deployment_id, key.key)
    shown = {
        "id": key.id,
        "name": key.name,
        "expires (UTC)": key.expires_at,
        "key (shown once)": key.key,
    }
    emit(key.raw, as_json, Record(shown))
    typer.echo("Store the key now: it cannot be shown again.", err=True)
