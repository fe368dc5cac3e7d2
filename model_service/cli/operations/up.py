"""``model-service up``."""

from pathlib import Path
from typing import Annotated

import typer


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The folder for all data [MODEL_SERVICE_HOME].", file_okay=False),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=1, max=65535, help="The registry's port [PORT].")
    ] = None,
    inference_port: Annotated[
        int | None,
        typer.Option(metavar="PORT", min=1, max=65535, help="The inference server's port [INFERENCE_PORT]."),
    ] = None,
) -> None:
    """Run the whole service on this machine until Ctrl-C. Starts MongoDB and Redis unless configured."""
    try:
        from model_service.config import SettingsError, read_settings
        from model_service.embedded.up import run
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.startswith("model_service"):
            raise
        extras = "model-service[server,embedded,worker]"
        raise typer.BadParameter(f"this needs the server, `pip install '{extras}'` ({exc})") from None
    given = {"model_service_home": data_dir, "port": port, "inference_port": inference_port}
    try:
        settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    except SettingsError as exc:
        typer.echo(f"error: invalid_setting: {exc}", err=True)
        raise typer.Exit(2) from None
    raise typer.Exit(run(settings, data_dir=settings.home))
