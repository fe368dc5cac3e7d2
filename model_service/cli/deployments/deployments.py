"""``model-service deployments``."""

from typing import Annotated, Any

import typer

from model_service.cli.common.option_groups import grouped
from model_service.cli.common.options import given
from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record
from model_service.cli.deployments import options as options
from model_service.cli.deployments.kept_keys import forget_key, keep_key
from model_service.cli.deployments.options import Package, Serving, Waiting
from model_service.client import Deployment, ModelServiceClient, WaitTimedOut

app = typer.Typer(help="Deployments: exports that serve predictions, or are delivered.", no_args_is_help=True)

_KEY = "key (shown once)"


@app.command()
@grouped
def create(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[JOB_ID] NAME",
            help="The export to deploy, unless options list exports, and the deployment's name.",
        ),
    ],
    *,
    package: Package,
    serving: Serving,
    keep: options.Keep = False,
    waiting: Waiting,
    as_json: Json = False,
) -> None:
    """Deploy one export or several. Store the key of an endpoint: it is shown only once."""
    fields = package.added_to(serving.fields())
    takes_job = not fields.keys() & {"traffic", "models", "ensemble", "export_job_ids"}
    if len(words) != 1 + takes_job:
        needs = (
            "an export's id and a name" if takes_job else "only a name, because the options list the exports"
        )
        raise typer.BadParameter(f"give {needs}", param_hint="[JOB_ID] NAME")
    client = client_of(context)
    created = client.create_deployment(words[0] if takes_job else None, words[-1], **fields)
    if keep and created.api_key is not None:
        keep_key(created.id, created.api_key)
    if waiting.wait:
        _wait_for_new(client, created, waiting, as_json)
    else:
        emit(created.raw, as_json, Record({**_fields(created), **_key_of(created)}))


@app.command("list")
def list_deployments(
    context: typer.Context,
    page: PageNumber = 1,
    limit: PageSize = None,
    status: Annotated[
        str | None,
        typer.Option(metavar="STATUS", help="pending, deploying, active, inactive or failed."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only those with this name.")] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type", metavar="TYPE", help="Only platform_endpoint, download, edge_package or container."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List deployments, newest first."""
    found = client_of(context).list_deployments(
        status=status, name=name, deployment_type=kind, page=page, limit=limit
    )
    rows = (
        (
            *(each.id, each.name, each.deployment_type, each.status, _served(each)),
            each.request_count if each.download_count is None else each.download_count,
            each.created_at,
        )
        for each in found
    )
    columns = ("id", "name", "type", "status", "exports", "requests", "created (UTC)")
    shown = Listing(columns, rows, spare=("created (UTC)", "exports", "requests", "type"))
    emit(found.raw, as_json, shown, footer(found))


@app.command("show", hidden=True)
@app.command()
def get(context: typer.Context, deployment: options.Deployment, as_json: Json = False) -> None:
    """Show one deployment."""
    _show(client_of(context).get_deployment(deployment), as_json)


@app.command()
@grouped
def update(
    context: typer.Context,
    deployment: options.Deployment,
    *,
    export_job_id: Annotated[
        str | None, typer.Option("--export", metavar="JOB_ID", help="The export to serve.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="The new name.")] = None,
    package: Package,
    serving: Serving,
    clear: options.Clear = None,
    revision: options.Revision = None,
    waiting: Waiting,
    as_json: Json = False,
) -> None:
    """Change a deployment. The old revision serves until the servers have loaded the new one."""
    changes = {
        **given({"export_job_id": export_job_id, "name": name}),
        **package.added_to(serving.fields()),
        **options.cleared(clear),
    }
    if not changes:
        raise typer.BadParameter("nothing to change: give --config, --export or another option")
    client = client_of(context)
    changed = client.update_deployment(deployment, revision=revision, **changes)
    _show(waiting.for_it(client, changed), as_json)


@app.command()
def renew(
    context: typer.Context,
    deployment: options.Deployment,
    expires_in: Annotated[
        int | None,
        typer.Option(metavar="SECONDS", min=1, help="How long the URL is valid; by default as configured."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Renew the download URL of a package."""
    _show(client_of(context).renew_deployment(deployment, expires_in), as_json)


@app.command()
def delete(context: typer.Context, deployment: options.Deployment, as_json: Json = False) -> None:
    """Stop serving a deployment and delete it."""
    answer = client_of(context).delete_deployment(deployment)
    forget_key(answer["deleted_id"])
    emit(answer, as_json, f"Deleted {deployment}.")


@app.command()
def scale(
    context: typer.Context,
    deployment: options.Deployment,
    replicas: Annotated[
        int | None, typer.Argument(metavar="[REPLICAS]", min=1, help="A fixed number of servers.")
    ] = None,
    at_least: Annotated[
        int | None, typer.Option("--min", metavar="N", help="The minimum number of servers.")
    ] = None,
    at_most: Annotated[
        int | None, typer.Option("--max", metavar="N", help="The maximum number of servers.")
    ] = None,
    target: Annotated[
        int | None,
        typer.Option(metavar="PERCENT", help="The target utilization for scaling between --min and --max."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set the number of servers."""
    bounds = {"min_replicas": at_least, "max_replicas": at_most, "target_utilization": target}
    if (replicas is None) == (not given(bounds)):
        raise typer.BadParameter("give the number of servers, or --min, --max and --target")
    client = client_of(context)
    _show(client.scale_deployment(deployment, replicas, **bounds), as_json)


@app.command()
@grouped
def activate(
    context: typer.Context,
    deployment: options.Deployment,
    waiting: Waiting,
    as_json: Json = False,
) -> None:
    """Start a deployment that was deactivated or failed."""
    client = client_of(context)
    started = client.activate_deployment(deployment)
    _show(waiting.for_it(client, started), as_json)


@app.command()
def deactivate(context: typer.Context, deployment: options.Deployment, as_json: Json = False) -> None:
    """Stop serving a deployment; its keys and its history stay."""
    client = client_of(context)
    _show(client.deactivate_deployment(deployment), as_json)


@app.command()
@grouped
def rollback(
    context: typer.Context,
    deployment: options.Deployment,
    *,
    revision: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The revision to return to; by default the last one with other traffic."
        ),
    ] = None,
    waiting: Waiting,
    as_json: Json = False,
) -> None:
    """Serve the exports of an earlier revision again."""
    client = client_of(context)
    back = client.rollback_deployment(deployment, revision)
    _show(waiting.for_it(client, back), as_json)


@app.command()
@grouped
def promote(
    context: typer.Context,
    deployment: options.Deployment,
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="The member's name, as `get` shows it.")],
    waiting: Waiting,
    as_json: Json = False,
) -> None:
    """Send all requests to one member of the traffic split, or to the shadow."""
    client = client_of(context)
    promoted = client.promote_deployment(deployment, member)
    _show(waiting.for_it(client, promoted), as_json)


def _wait_for_new(client: ModelServiceClient, created: Deployment, waiting: Waiting, as_json: bool) -> None:
    """Print the key before waiting, which may fail or be interrupted: it cannot be requested again."""
    if not as_json and created.api_key is not None:
        emit({}, False, Record(_key_of(created)))
    try:
        serving = waiting.for_it(client, created)
    except (WaitTimedOut, typer.Exit):
        if as_json:
            emit(created.raw, as_json)
        raise
    _show(serving, as_json)


def _key_of(created: Deployment) -> dict[str, Any]:
    return {} if created.api_key is None else {_KEY: created.api_key}


def _show(deployment: Deployment, as_json: bool) -> None:
    emit(deployment.raw, as_json, Record(_fields(deployment)))


def _fields(deployment: Deployment) -> dict[str, Any]:
    count, shadow = deployment.request_count, deployment.routing.get("shadow")
    behind = deployment.live_revision is not None and deployment.live_revision != deployment.revision
    return {
        "id": deployment.id,
        "name": deployment.name,
        "description": deployment.description,
        "type": deployment.deployment_type,
        "status": deployment.status,
        "revision": f"{deployment.revision}, serving {deployment.live_revision}"
        if behind
        else deployment.revision,
        "serves": "\n".join(map(_member, deployment.members)) or deployment.model_version,
        "shadow": shadow and f"{_member(shadow)}, {shadow.get('share', 0):.0%} of the requests",
        "sticky by": deployment.routing.get("sticky_header"),
        "config": deployment.config,
        "endpoint": deployment.endpoint_url,
        "download": deployment.download_url,
        "expires (UTC)": deployment.expires_at,
        "downloads": deployment.download_count,
        "notice": deployment.notice,
        "error": deployment.error_message,
        "requests": count if deployment.download_count is None else None,
        "errors": deployment.error_count or None,
        "mean time": f"{deployment.total_inference_time_ms / count:.2f} ms" if count else None,
        "last request (UTC)": deployment.last_request_at,
        "created (UTC)": deployment.created_at,
        "updated (UTC)": deployment.updated_at,
    }


def _member(member: dict[str, Any]) -> str:
    model = " ".join(filter(None, (member.get("model_name"), member.get("model_version"))))
    weight = member.get("weight")
    share = "" if weight is None or "share" in member else f", weight {weight}"
    return f"{member.get('name')}: {model}{share}"


def _served(deployment: Deployment) -> str | None:
    names = [f"{each.get('model_name')} {each.get('model_version')}" for each in deployment.members]
    return ", ".join(names) or deployment.model_version
