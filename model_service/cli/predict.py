"""``model-service predict``."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.output import Json, client_of, emit, record
from model_service.client.inputs import NPY_MAGIC


def predict(
    context: typer.Context,
    deployment: Annotated[str, typer.Argument(help="An id or an endpoint URL.")],
    inputs: Annotated[
        str, typer.Argument(metavar="INPUT", help="A .npy file, a JSON file, or - for standard input.")
    ],
    key: Annotated[
        str | None,
        typer.Option(envvar="MODEL_SERVICE_DEPLOYMENT_KEY", help="The deployment's key, pk_…"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a deployment. JSON is a nested list, or an object of them by input name; the batch comes first."""
    content = sys.stdin.buffer.read() if inputs == "-" else Path(inputs).read_bytes()
    answer = client_of(context).predict(deployment, _inputs(content), api_key=key)
    shown = {
        "model version": answer.model_version,
        "latency": None if answer.latency_ms is None else f"{answer.latency_ms:.2f} ms",
        "predictions": answer.predictions,
        **({} if answer.predictions is not None else answer.outputs),
    }
    emit(answer.raw, as_json, record(shown))


def _inputs(content: bytes) -> Any:
    """The bytes of a .npy file as they are, or JSON; ``{"inputs": …}``, the route's own body, works too."""
    if content.startswith(NPY_MAGIC):
        return content
    try:
        value = json.loads(content)
    except ValueError as exc:
        raise typer.BadParameter(f"neither a .npy file nor JSON: {exc}", param_hint="INPUT") from None
    return value["inputs"] if isinstance(value, dict) and value.keys() == {"inputs"} else value
