"""``model-service health | setup-database``: what containers run beside the service."""

from typing import Annotated

import typer
import urllib3

from model_service.cli.common.tables import printable
from model_service.cli.operations.server_side import server_side

_PROBE_S = 4.0


def health(context: typer.Context) -> None:
    """Check whether the server at --url is ready. The exit code is 1 if it is not, for health checks."""
    url = f"{context.obj.base_url}/health/ready"
    reason: str | None
    try:
        status = urllib3.request("GET", url, retries=False, timeout=_PROBE_S).status
    except urllib3.exceptions.HTTPError as exc:
        reason = f"{url} does not respond: {exc}"
    else:
        reason = f"{url} returns {status}" if status != 200 else None
    if reason:
        typer.echo(f"error: not_ready: {printable(reason)}", err=True)
        raise typer.Exit(1)
    typer.echo("ready")


def setup_database(
    wait: Annotated[
        float, typer.Option("--wait", metavar="SECONDS", min=0, help="The time that MongoDB has to start.")
    ] = 60.0,
) -> None:
    """Initiate MongoDB's replica set and create the user of MONGODB_URL. Needs MONGODB_ADMIN_URL."""
    with server_side():
        from model_service.operate import set_up_database

        done = set_up_database(wait)
    for line in done:
        typer.echo(line)
    typer.echo("MongoDB is ready.")
