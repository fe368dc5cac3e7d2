"""``model-service deployments download``."""

from pathlib import Path

import typer

from model_service.cli.common.options import Output
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.common.tables import size
from model_service.cli.deployments import options


def download(
    context: typer.Context,
    deployment: options.Deployment,
    output: Output = Path(),
    as_json: Json = False,
) -> None:
    """Download the package of a deployment and verify its checksum."""
    client = client_of(context)
    found = client.get_deployment(deployment)
    written = client.download_deployment(deployment, output)
    emit(found.raw, as_json, f"{written}  {size(written.stat().st_size)}, checksum verified")
