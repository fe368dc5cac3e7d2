"""``model-service deployments``."""

from typing import Annotated

import typer

from model_service.cli.options import json_object
from model_service.cli.output import Json, PageNumber, PageSize, client_of, emit, footer, waiting
from model_service.cli.tables import Listing, Record
from model_service.client import Deployment, ModelServiceClient, WaitTimedOut

app = typer.Typer(help="Exports that answer predictions.", no_args_is_help=True)

DeploymentId = Annotated[str, typer.Argument(metavar="DEPLOYMENT_ID", help="The deployment's id.")]

_KEY = "key (shown once)"


@app.command()
def create(
    context: typer.Context,
    export_job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A completed export.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    description: Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")] = None,
    config: Annotated[str | None, typer.Option(metavar="JSON", help="An object, or @FILE.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it serves.")] = False,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long to wait.")] = 120,
    as_json: Json = False,
) -> None:
    """Deploy an export. Its key is shown once, now: keep it."""
    client = client_of(context)
    created = client.create_deployment(
        export_job_id, name, description=description, config=json_object(config)
    )
    if wait:
        _wait(client, created, timeout, as_json)
    else:
        emit(created.raw, as_json, Record({**_fields(created), _KEY: created.api_key}))


@app.command("list")
def list_deployments(
    context: typer.Context, page: PageNumber = 1, limit: PageSize = None, as_json: Json = False
) -> None:
    """List deployments, newest first."""
    found = client_of(context).list_deployments(page=page, limit=limit)
    rows = (
        (each.id, each.name, each.status, each.model_version, each.request_count, each.created_at)
        for each in found
    )
    columns = ("id", "name", "status", "model version", "requests", "created (UTC)")
    shown = Listing(columns, rows, spare=("created (UTC)", "model version", "requests"))
    emit(found.raw, as_json, shown, footer(found))


@app.command()
def get(context: typer.Context, deployment_id: DeploymentId, as_json: Json = False) -> None:
    """Show one deployment."""
    deployment = client_of(context).get_deployment(deployment_id)
    emit(deployment.raw, as_json, Record(_fields(deployment)))


@app.command()
def delete(context: typer.Context, deployment_id: DeploymentId, as_json: Json = False) -> None:
    """Stop serving a deployment and delete it."""
    emit(client_of(context).delete_deployment(deployment_id), as_json, f"Deleted {deployment_id}.")


def _wait(client: ModelServiceClient, created: Deployment, timeout_s: float, as_json: bool) -> None:
    """The key is told before the waiting, which may fail or be interrupted: nobody can ask for it again."""
    if not as_json:
        emit({}, False, Record({_KEY: created.api_key}))
    typer.echo(f"Deployment {created.id} is starting. Ctrl-C ends only the waiting.", err=True)
    try:
        with waiting(
            f"Deployment {created.id}", f"Look at it with `model-service deployments get {created.id}`."
        ):
            serving = client.wait_for_deployment(created, timeout_s=timeout_s)
    except (WaitTimedOut, typer.Exit):
        if as_json:
            emit(created.raw, as_json)
        raise
    emit(serving.raw, as_json, Record(_fields(serving)))


def _fields(deployment: Deployment) -> dict[str, object]:
    count = deployment.request_count
    return {
        "id": deployment.id,
        "name": deployment.name,
        "type": deployment.deployment_type,
        "model version": deployment.model_version,
        "status": deployment.status,
        "endpoint": deployment.endpoint_url,
        "error": deployment.error_message,
        "requests": count,
        "mean time": f"{deployment.total_inference_time_ms / count:.2f} ms" if count else None,
        "last request (UTC)": deployment.last_request_at,
        "created (UTC)": deployment.created_at,
    }
