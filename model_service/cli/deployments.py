"""``model-service deployments``."""

from typing import Annotated

import typer

from model_service.cli.options import json_object
from model_service.cli.output import Json, PageNumber, PageSize, client_of, emit, footer, record, table
from model_service.client import Deployment

app = typer.Typer(help="Exports that answer predictions.", no_args_is_help=True)

DeploymentId = Annotated[str, typer.Argument(metavar="DEPLOYMENT_ID")]


@app.command()
def create(
    context: typer.Context,
    export_job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="A completed export.")],
    name: str,
    description: Annotated[str | None, typer.Option()] = None,
    config: Annotated[str | None, typer.Option(metavar="JSON", help="An object, or @file.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it serves.")] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait at most.")] = 120,
    as_json: Json = False,
) -> None:
    """Deploy an export. Its key is shown once, now: keep it."""
    client = client_of(context)
    deployment = client.create_deployment(
        export_job_id, name, description=description, config=json_object(config)
    )
    if wait:
        if deployment.api_key and not as_json:
            # Before the waiting: the key cannot be asked for again if that is interrupted or fails.
            typer.echo(f"key of {deployment.id}: {deployment.api_key}", err=True)
        deployment = client.wait_for_deployment(deployment, timeout_s=timeout)
    _show(deployment, as_json)


@app.command("list")
def list_deployments(
    context: typer.Context, page: PageNumber = 1, limit: PageSize = None, as_json: Json = False
) -> None:
    """List deployments, newest first."""
    found = client_of(context).list_deployments(page=page, limit=limit)
    rows = (
        (each.id, each.name, each.status, each.endpoint_url, each.request_count, each.last_request_at)
        for each in found
    )
    columns = ("id", "name", "status", "endpoint", "requests", "last request (UTC)")
    emit(found.raw, as_json, table(columns, rows), footer(found))


@app.command()
def get(context: typer.Context, deployment_id: DeploymentId, as_json: Json = False) -> None:
    """Show one deployment."""
    _show(client_of(context).get_deployment(deployment_id), as_json)


@app.command()
def delete(context: typer.Context, deployment_id: DeploymentId, as_json: Json = False) -> None:
    """Stop serving a deployment and delete it."""
    emit(client_of(context).delete_deployment(deployment_id), as_json, f"Deleted {deployment_id}.")


def _show(deployment: Deployment, as_json: bool) -> None:
    count = deployment.request_count
    shown = {
        "id": deployment.id,
        "name": deployment.name,
        "type": deployment.deployment_type,
        "status": deployment.status,
        "endpoint": deployment.endpoint_url,
        "key (shown once)": deployment.api_key,
        "error": deployment.error_message,
        "requests": count,
        "mean time": f"{deployment.total_inference_time_ms / count:.2f} ms" if count else None,
        "last request (UTC)": deployment.last_request_at,
        "created (UTC)": deployment.created_at,
    }
    emit(deployment.raw, as_json, record(shown))
