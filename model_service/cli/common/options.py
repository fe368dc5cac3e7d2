"""Options that several groups of commands share: JSON, and the names of models."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.common.output import file_problem

MODEL_HELP = "An id, NAME@ALIAS, NAME/v1.2 or NAME/latest."
Output = Annotated[
    Path,
    typer.Argument(
        metavar="[OUTPUT]",
        help="The file to write, or its folder; by default the stored name, in this folder.",
    ),
]
ModelId = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
ModelFilter = Annotated[str | None, typer.Option(metavar="MODEL", help="Only those of this model.")]
JsonObject = Annotated[str | None, typer.Option(metavar="JSON", help="A JSON object, or @FILE.")]


def json_object(given: str | None) -> dict[str, Any] | None:
    """Parse a JSON object, given as text or as ``@file``.

    Raises:
        typer.BadParameter: no such file, or not a JSON object.
    """
    if given is None:
        return None
    value = json_file(given[1:]) if given.startswith("@") else _json(given)
    if not isinstance(value, dict):
        raise typer.BadParameter('not a JSON object like {"accuracy": 0.97}')
    return value


def options_of(words: Sequence[str] | None, config: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return ``config`` with the options of ``NAME=JSON``; invalid JSON is text: ``precision=float16``.

    Raises:
        typer.BadParameter: no NAME=JSON, or truncated JSON.
    """
    found = dict(config or {})
    for word in words or ():
        name, equals, text = word.partition("=")
        if not (name and equals and text):
            raise typer.BadParameter(
                f"{word!r} is not of the form NAME=JSON, like opset_version=18", param_hint="--option"
            )
        try:
            found[name] = json.loads(text)
        except ValueError as exc:
            if text[0] in '[{"':
                raise typer.BadParameter(f"{name} is not JSON: {exc}", param_hint="--option") from None
            found[name] = text
    return found if words or config is not None else None


def json_file(path: str) -> Any:
    """Read a JSON file. Raises typer.BadParameter if it does not exist, or is not JSON."""
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
    """Keep the options given on the command line: the service chooses the others, or does not change them."""
    return {name: value for name, value in fields.items() if value is not None}


def in_days(days: float | None) -> datetime | None:
    """Return the date in so many days; None: never. Raises typer.BadParameter beyond the calendar's end."""
    try:
        return None if days is None else datetime.now(UTC) + timedelta(days=days)
    except (OverflowError, ValueError):
        raise typer.BadParameter("the date is after the end of the calendar", param_hint="--days") from None
