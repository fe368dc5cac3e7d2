"""What several commands on deployments take: which deployment, and what is served there."""

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

import typer

from model_service.cli.options import json_object
from model_service.client import ModelServiceClient

Deployment = Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="An id, or a name that it alone has.")]
Description = Annotated[str | None, typer.Option(metavar="TEXT", help="What it is for.")]
Config = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='An object, or @FILE: {"batching": {"max_batch_size": 8}}.'),
]
Traffic = Annotated[
    list[str] | None,
    typer.Option(metavar="JOB_ID=WEIGHT", help="An export and its share of the requests; repeat it."),
]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME=JOB_ID", help="One of several models behind it; repeat it."),
]
Ensemble = Annotated[
    list[str] | None,
    typer.Option(metavar="JOB_ID", help="An export of a chain, in its order; repeat it."),
]
StickyHeader = Annotated[
    str | None,
    typer.Option(metavar="HEADER", help="Requests with the same value of it get the same export."),
]
Shadow = Annotated[
    str | None,
    typer.Option(metavar="JOB_ID=SHARE", help="An export that gets copies of a share (0 to 1) of them."),
]
Rollback = Annotated[
    str | None,
    typer.Option(metavar="JSON", help='When to go back by itself: {"max_error_rate": 0.05}, or @FILE.'),
]
Clear = Annotated[
    list[str] | None,
    typer.Option(metavar="PART", help="shadow, rollback, sticky-header or description: none; repeat it."),
]
Revision = Annotated[
    int | None, typer.Option(metavar="N", help="Only if this is its revision still, as `get` shows it.")
]

_CLEARABLE = frozenset({"shadow", "rollback", "sticky_header", "description"})


def id_of(client: ModelServiceClient, deployment: str) -> str:
    """An id as it is; a name is looked up."""
    try:
        UUID(deployment)
    except ValueError:
        return client.find_deployment(deployment).id
    return deployment


def routes(
    traffic: Sequence[str] | None,
    models: Sequence[str] | None,
    ensemble: Sequence[str] | None,
    sticky_header: str | None,
    shadow: str | None,
    rollback: str | None,
) -> dict[str, Any]:
    """What is said of who answers, as the service takes it.

    Raises:
        typer.BadParameter: a pair that is none.
    """
    fields = {
        "traffic": [
            {"export_job_id": job, "weight": _number(int, weight, "--traffic")}
            for job, weight in (_pair(each, "--traffic") for each in traffic or ())
        ],
        "models": dict(_pair(each, "--model") for each in models or ()),
        "ensemble": [{"export_job_id": job} for job in ensemble or ()],
        "sticky_header": sticky_header,
        "rollback": json_object(rollback),
    }
    if shadow is not None:
        job, share = _pair(shadow, "--shadow")
        fields["shadow"] = {"export_job_id": job, "share": _number(float, share, "--shadow")}
    return {name: value for name, value in fields.items() if value}


def cleared(parts: Sequence[str] | None) -> dict[str, None]:
    """What is to be there no longer, as the service takes it. Raises: typer.BadParameter: it has to be."""
    fields = [part.replace("-", "_") for part in parts or ()]
    if not _CLEARABLE.issuperset(fields):
        raise typer.BadParameter(f"one of {', '.join(sorted(_CLEARABLE))}", param_hint="--clear")
    return dict.fromkeys(fields)


def _pair(given: str, option: str) -> tuple[str, str]:
    first, equals, second = given.partition("=")
    if not (first and equals and second):
        raise typer.BadParameter(f"{given!r} is no pair like A=B", param_hint=option)
    return first, second


def _number(kind: type[int] | type[float], text: str, option: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number", param_hint=option) from None
