"""``model-service doctor``, which runs on the machine that it checks."""

from dataclasses import asdict
from typing import Annotated

import typer

from model_service.cli.common.output import emit
from model_service.cli.common.tables import printable
from model_service.cli.operations.server_side import server_side


def doctor(
    context: typer.Context,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="Only for the part that runs here: api, worker or serving. Can be repeated; by default all.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Check this machine's set-up, and with --url a proxy. The exit code is 1 if there is an error."""
    assert context.parent is not None
    source = context.parent.get_parameter_source("url")
    # MODEL_SERVICE_URL may be the address of the part that runs here, as in the images, and not of a proxy.
    url = context.obj.base_url if source is not None and source.name == "COMMANDLINE" else None
    with server_side():
        from model_service.doctor import Part, Status, examine

        unknown = set(part or ()) - set(Part)
        if unknown:
            raise typer.BadParameter(f"one of {', '.join(Part)}", param_hint="--part")
        parts = frozenset(map(Part, part or Part))
        found = []
        for finding in examine(url, parts):
            found.append(finding)
            if not as_json:
                typer.echo(f"{finding.status:<8} {finding.check:<20} {printable(finding.message)}")
    counts = {status: sum(each.status is status for each in found) for status in Status}
    emit({"counts": counts, "checks": [asdict(each) for each in found]}, as_json)
    if not as_json:
        typer.echo(", ".join(f"{status}: {count}" for status, count in counts.items()), err=True)
    if counts[Status.ERROR]:
        raise typer.Exit(1)
