"""``model-service up``."""

from pathlib import Path
from typing import Annotated

import typer

from model_service.cli.operations.server_side import server_side


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
    given = {"model_service_home": data_dir, "port": port, "inference_port": inference_port}
    with server_side("server,embedded,worker"):
        from model_service.config import read_settings, require_api_key
        from model_service.embedded.up import run

        settings = read_settings(**{name: value for name, value in given.items() if value is not None})
        require_api_key(settings)
    raise typer.Exit(run(settings, data_dir=settings.home))
