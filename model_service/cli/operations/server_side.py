"""Commands that run the server's code on this machine, and its errors as those of a command."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from model_service.cli.common.tables import printable


@contextmanager
def server_side(extras: str = "server") -> Iterator[None]:
    """Import and run the server's code inside; ``extras`` are those of ``model-service`` that it needs.

    Raises:
        typer.BadParameter: they are not installed.
        typer.Exit: 2, after one line; a setting is wrong.
    """
    try:
        from model_service.config import SettingsError

        try:
            yield
        except SettingsError as exc:
            typer.echo(f"error: invalid_setting: {printable(str(exc))}", err=True)
            raise typer.Exit(2) from None
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("model_service"):
            raise
        raise typer.BadParameter(
            f"this needs the server, `pip install 'model-service[{extras}]'` ({exc})"
        ) from None
