"""What commands of several nouns take: JSON, and the names of models."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.output import file_problem

MODEL_HELP = "An id, NAME@ALIAS, NAME/v1.2 or NAME/latest."
Output = Annotated[
    Path,
    typer.Argument(
        metavar="[OUTPUT]", help="The file to write, or a folder for it; by default its own name, here."
    ),
]
ModelId = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
ModelFilter = Annotated[str | None, typer.Option(metavar="MODEL", help="Of this model only.")]
JsonObject = Annotated[str | None, typer.Option(metavar="JSON", help="An object, or @FILE.")]


def json_object(given: str | None) -> dict[str, Any] | None:
    """A JSON object written out, or read from a file named as ``@file``.

    Raises:
        typer.BadParameter: no such file, or not a JSON object.
    """
    if given is None:
        return None
    value = json_file(given[1:]) if given.startswith("@") else _json(given)
    if not isinstance(value, dict):
        raise typer.BadParameter('not a JSON object like {"accuracy": 0.97}')
    return value


def json_file(path: str) -> Any:
    """Raises typer.BadParameter: no such file, or not JSON."""
    try:
        return _json(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise typer.BadParameter(file_problem(exc)) from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise typer.BadParameter(f"not JSON: {exc}") from None


def given(fields: dict[str, Any]) -> dict[str, Any]:
    """Only what was said on the command line: the rest is the service's to choose, or to leave alone."""
    return {name: value for name, value in fields.items() if value is not None}


def in_days(days: float | None) -> datetime | None:
    """When so many days are over; None: never. Raises: typer.BadParameter: after the calendar's end."""
    try:
        return None if days is None else datetime.now(UTC) + timedelta(days=days)
    except (OverflowError, ValueError):
        raise typer.BadParameter("more days than the calendar has", param_hint="--days") from None
