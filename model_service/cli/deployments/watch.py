"""``model-service deployments watch``: the state of deployments, updated until Ctrl-C."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import Listing, milliseconds
from model_service.client import Deployment, DeploymentFailed, ModelServiceClient, ServiceError, Usage
from model_service.states import DeploymentStatus

# Only the newest are watched, because each unnamed deployment needs a request of its own.
_MOST = 50
_COLUMNS = ("id", "name", "status", "revision", "requests/s", "p50", "p95", "errors", "requests")
_SPARE = ("requests", "revision")


@dataclass(frozen=True)
class _Sample:
    """A deployment and its counts of this hour, read at ``at`` on the monotonic clock."""

    deployment: Deployment
    hour: Usage | None
    at: float

    def rate(self, before: "_Sample | None") -> float | None:
        """Return the requests per second since the previous sample; None for the first one."""
        if before is None or self.at <= before.at:
            return None
        return (self.deployment.request_count - before.deployment.request_count) / (self.at - before.at)


def watch(
    context: typer.Context,
    deployment: Annotated[
        str | None,
        typer.Argument(
            metavar="[DEPLOYMENT]",
            help="The deployment's id, or its name if it is unique; by default all deployments.",
        ),
    ] = None,
    interval: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="The time between updates.")
    ] = 2,
    until_active: Annotated[
        bool,
        typer.Option(
            "--until-active", help="Exit when the newest revision is served; exit code 1 if it failed."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show status, requests a second, and this hour's latency and errors, until Ctrl-C.

    With --json, a line for each sample.
    """
    client = client_of(context)
    deployment_id = None if deployment is None else client.get_deployment(deployment).id
    try:
        last = _follow(client, deployment_id, interval, until_active, as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    failed = [each for each in last if _has_failed(each)]
    if failed:
        reason = failed[0].error_message or "the service gave no reason."
        raise DeploymentFailed(
            failed[0], f"Deployment {failed[0].id} is {failed[0].status}: {reason}", "deployment_failed"
        )


def _follow(
    client: ModelServiceClient,
    deployment_id: str | None,
    interval_s: float,
    until_active: bool,
    as_json: bool,
) -> list[Deployment]:
    """Show the state until Ctrl-C, or until all are settled if requested; return the last state."""
    console = Console(markup=False, highlight=False, emoji=False)
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not as_json else None
    before: dict[str, _Sample] = {}
    if live is not None:
        live.start()
    try:
        while True:
            samples = list(_samples(client, deployment_id))
            rates = {
                sample.deployment.id: sample.rate(before.get(sample.deployment.id)) for sample in samples
            }
            before = {sample.deployment.id: sample for sample in samples}
            if as_json:
                sys.stdout.write(json.dumps(_as_json(samples, rates)) + "\n")
                sys.stdout.flush()
            elif live is not None:
                live.update(_table(samples, rates), refresh=True)
            else:
                emit({}, False, _table(samples, rates))
            seen = [sample.deployment for sample in samples]
            if until_active and all(_is_settled(each) for each in seen):
                return seen
            time.sleep(interval_s)
    finally:
        if live is not None:
            live.stop()


def _samples(client: ModelServiceClient, deployment_id: str | None) -> Iterator[_Sample]:
    if deployment_id is None:
        seen = list(client.list_deployments(limit=_MOST))
    else:
        seen = [client.get_deployment(deployment_id)]
    start = datetime.now(UTC) - timedelta(hours=1)
    for each in seen:
        at = time.monotonic()
        try:
            hour = client.deployment_usage(each.id, start=start).total if each.request_count else None
        except ServiceError:  # it was deleted meanwhile, or the key may not read its usage
            hour = None
        yield _Sample(each, hour, at)


def _is_settled(deployment: Deployment) -> bool:
    return deployment.serves(deployment.revision) or _has_failed(deployment)


def _has_failed(deployment: Deployment) -> bool:
    is_off = deployment.status in {DeploymentStatus.FAILED, DeploymentStatus.INACTIVE}
    return is_off or deployment.gave_up(deployment.revision)


def _table(samples: list[_Sample], rates: dict[str, float | None]) -> Listing:
    rows = [
        (
            sample.deployment.id,
            sample.deployment.name,
            sample.deployment.status,
            _revision(sample.deployment),
            "" if rates[sample.deployment.id] is None else f"{rates[sample.deployment.id]:.1f}",
            milliseconds(sample.hour.latency_ms.get("p50")) if sample.hour else "",
            milliseconds(sample.hour.latency_ms.get("p95")) if sample.hour else "",
            sample.hour.errors if sample.hour else 0,
            sample.deployment.request_count,
        )
        for sample in samples
    ]
    return Listing(_COLUMNS, rows, spare=_SPARE)


def _revision(deployment: Deployment) -> str:
    if deployment.live_revision in {None, deployment.revision}:
        return str(deployment.revision or "")
    return f"{deployment.live_revision} → {deployment.revision}"


def _as_json(samples: list[_Sample], rates: dict[str, float | None]) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(),
        "deployments": [
            {
                "id": sample.deployment.id,
                "name": sample.deployment.name,
                "status": sample.deployment.status,
                "revision": sample.deployment.revision,
                "live_revision": sample.deployment.live_revision,
                "requests_per_s": rates[sample.deployment.id],
                "request_count": sample.deployment.request_count,
                "latency_ms": sample.hour.latency_ms if sample.hour else None,
                "errors": sample.hour.errors if sample.hour else 0,
            }
            for sample in samples
        ],
    }
