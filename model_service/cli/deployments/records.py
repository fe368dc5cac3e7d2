"""``model-service deployments history``, ``logs`` and ``usage``."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from model_service.cli.common.output import Json, PageNumber, PageSize, client_of, emit, footer
from model_service.cli.common.tables import Listing, Record, milliseconds, size
from model_service.cli.deployments import options as options
from model_service.client import DeploymentUsage, Usage

_WHEN = "In UTC, for example 2026-11-21 or 2026-11-21T18:00:00."
_COLUMNS = ("at (UTC)", "answered by", "requests", "errors", "refused", "p50", "p95", "p99", "in", "out")


def history(
    context: typer.Context,
    deployment: options.Deployment,
    event: Annotated[
        str | None, typer.Option(metavar="EVENT", help="Only this event: deployed, updated, rolled_back, …")
    ] = None,
    page: PageNumber = 1,
    limit: PageSize = None,
    as_json: Json = False,
) -> None:
    """Show the changes of a deployment, newest first."""
    client = client_of(context)
    found = client.deployment_history(deployment, event=event, page=page, limit=limit)
    rows = (
        (
            each.created_at,
            each.event_type,
            each.status_after if each.status_after != each.status_before else None,
            each.created_by_user_id,
            each.event_data,
        )
        for each in found
    )
    columns = ("at (UTC)", "event", "status", "by", "what")
    emit(found.raw, as_json, Listing(columns, rows, spare=("by",)), footer(found))


def logs(
    context: typer.Context,
    deployment: options.Deployment,
    level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="The lowest level to show: debug, info, warning or error."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The maximum number of entries.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the inference servers' log of a deployment, newest first."""
    client = client_of(context)
    found = client.deployment_logs(deployment, level=level, limit=limit)
    rows = ((each.at, each.level, each.event, each.message, each.server) for each in found)
    shown = Listing(("at (UTC)", "level", "event", "message", "server"), rows, spare=("server", "event"))
    emit({"logs": [each.raw for each in found]}, as_json, shown)


def usage(
    context: typer.Context,
    deployment: options.Deployment,
    start: Annotated[datetime | None, typer.Option("--from", metavar="TIME", help=_WHEN)] = None,
    end: Annotated[datetime | None, typer.Option("--to", metavar="TIME", help=_WHEN)] = None,
    by_day: Annotated[
        bool, typer.Option("--by-day", help="One line per day instead of one per hour.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a deployment's number of requests and inference time, by hour and version."""
    client = client_of(context)
    found = client.deployment_usage(
        deployment,
        start=start and start.replace(tzinfo=UTC),
        end=end and end.replace(tzinfo=UTC),
        granularity="day" if by_day else None,
    )
    rows = [(each.at, f"{each.member} {each.model_version}", *_counted(each)) for each in found.usage]
    rows.append(("in all", "", *_counted(found.total)))
    shown = Listing(_COLUMNS, rows, spare=("out", "in", "p99", "refused"))
    emit(found.raw, as_json, shown, Record(_month(found)))


COMMANDS = (history, usage, logs)


def _counted(counted: Usage) -> tuple[object, ...]:
    latency = (counted.latency_ms.get(name) for name in ("p50", "p95", "p99"))
    return (
        counted.requests,
        counted.errors,
        counted.client_errors,
        *(milliseconds(each) for each in latency),
        size(counted.bytes_in),
        size(counted.bytes_out),
    )


def _month(found: DeploymentUsage) -> dict[str, object]:
    quota, price = found.quota or {}, found.price or {}
    limit, costs = quota.get("requests_per_month"), any(price.values())
    return {
        "tier": quota.get("tier"),
        "this month": quota and f"{quota['used']:,} of {limit or 'unlimited'} requests",
        "price": f"{price['of_requests']:.2f} for these requests, {price['per_month']:.2f} a month"
        if costs
        else None,
    }
