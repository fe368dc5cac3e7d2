"""JSON given on the command line."""

import json
from pathlib import Path
from typing import Any

import typer

from model_service.cli.output import file_problem


def json_object(given: str | None) -> dict[str, Any] | None:
    """A JSON object written out, or read from a file named as ``@file``.

    Raises:
        typer.BadParameter: no such file, or not a JSON object.
    """
    if given is None:
        return None
    try:
        text = Path(given[1:]).read_text(encoding="utf-8") if given.startswith("@") else given
        value = json.loads(text)
    except OSError as exc:
        raise typer.BadParameter(file_problem(exc)) from None
    except ValueError as exc:
        raise typer.BadParameter(f"not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise typer.BadParameter('not a JSON object like {"accuracy": 0.97}')
    return value
