"""Shared by commands that send or remove files: their options, and the confirmation of replacements."""

import sys
from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from model_service.cli.common.tables import printable
from model_service.client import Conflict

T = TypeVar("T")

Replace = Annotated[
    bool,
    typer.Option("--replace", help="Replace a file that has other content; the old file goes to the trash."),
]
Confirm = Annotated[
    list[str] | None,
    typer.Option(
        "--confirm",
        metavar="NAME",
        help="Dependents of the version, as the error lists them, separated by commas. Terminals prompt.",
    ),
]


def agreed(send: Callable[[list[str]], T], confirm: list[str] | None) -> T:
    """Return the result of ``send(names)``, which gets the confirmed names.

    If the service requires confirmation, a terminal prompts for it. After Ctrl-C, the command prints what was
    stored, and that repeating the command continues.
    """
    given = [name for text in confirm or () for part in text.split(",") if (name := part.strip())]
    try:
        try:
            return send(given)
        except Conflict as refusal:
            if refusal.code != "confirmation_required" or not sys.stdin.isatty():
                raise
            typer.echo(printable(f"{in_commands(refusal.message)}"), err=True)
            if not typer.confirm("Change it anyway?", err=True):
                raise typer.Exit(1) from None
            return send([str(name) for name in refusal.details.get("confirm", [])])
    except KeyboardInterrupt as stop:
        for note in getattr(stop, "__notes__", ["Run the same command again to start over."]):
            typer.echo(f"\n{printable(note)}", err=True)
        raise typer.Exit(130) from None


def in_commands(message: str) -> str:
    """Replace the request's parameters in a service's error by this program's options."""
    return message.replace("replace=true", "--replace").replace("confirm=", "--confirm ")


def stored(unchanged: bool) -> str:
    return ", unchanged" if unchanged else ""
