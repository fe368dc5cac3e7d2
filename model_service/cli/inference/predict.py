"""``model-service predict``."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.common.option_groups import grouped
from model_service.cli.common.output import Json, client_of, emit
from model_service.cli.deployments.kept_keys import kept_key
from model_service.cli.inference import files as files
from model_service.cli.inference.views import heading, table
from model_service.client import Deployment, ModelServiceClient, Prediction, Unauthorized
from model_service.client.inference.sync_inference import Options


@dataclass(frozen=True)
class Choices:
    """Options beside the input."""

    text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="A text instead of INPUT, for a model that takes texts."),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="MODEL_SERVICE_DEPLOYMENT_KEY",
            help="The deployment's key, pk_…; by default the one that --keep-key stored.",
        ),
    ] = None
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model to use, if the deployment has several.")
    ] = None
    confidence_threshold: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="For detectors: the lowest confidence of a returned box."),
    ] = None
    iou_threshold: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="For detectors: boxes that overlap more count as one."),
    ] = None
    max_detections: Annotated[
        int | None, typer.Option(metavar="N", help="For detectors: the maximum number of boxes.")
    ] = None
    top_k: Annotated[
        int | None, typer.Option(metavar="N", help="For classifiers: the number of classes to return.")
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.001, help="The longest time to wait for the response."),
    ] = None

    def options(self, kept_key: str | None) -> Options:
        return {
            "text": self.text,
            "api_key": self.key or kept_key,
            "model": self.model,
            "confidence_threshold": self.confidence_threshold,
            "iou_threshold": self.iou_threshold,
            "max_detections": self.max_detections,
            "top_k": self.top_k,
            "timeout_s": self.timeout,
        }


@grouped
def predict(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            metavar="DEPLOYMENT", help="The deployment's id, its name if it is unique, or the endpoint's URL."
        ),
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]", help="An image, or a .npy, .npz, .csv, .parquet or JSON file; - for stdin."
        ),
    ] = None,
    *,
    choices: Choices,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the output arrays to this .npz or .npy file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Get a prediction. JSON is a nested list with the batch first, or an object with one per input.

    A .csv or .parquet file, or a JSON list of objects, has the rows for a model with named columns.
    """
    if (source is None) == (choices.text is None):
        raise typer.BadParameter("give an input, or --text", param_hint="INPUT")
    inputs, records = (None, None) if source is None else files.read(source)
    client = client_of(context)
    target, key = _target(client, deployment)
    if output is not None:
        inputs = files.arrays(inputs, output)
    answer = _predict(client, target, inputs, choices.options(key) | {"records": records})
    if output is not None:
        files.write(answer, output)
    elif as_json:
        sys.stdout.write(json.dumps(answer.raw) + "\n")  # one line per response, for programs
    else:
        emit(answer.raw, False, heading(answer), table(answer))


def _target(client: ModelServiceClient, deployment: str) -> tuple[str | Deployment, str | None]:
    """Return the deployment, and its key if it is stored on this machine."""
    if "://" in deployment:
        return deployment, None
    found = client.get_deployment(deployment)
    return found, kept_key(found.id)


def _predict(
    client: ModelServiceClient, target: str | Deployment, inputs: Any, options: Options
) -> Prediction:
    try:
        return client.predict(target, inputs, **options)
    except Unauthorized as exc:
        where = "--key or MODEL_SERVICE_DEPLOYMENT_KEY"
        exc.add_note(
            f"The key in {where}, or stored by --keep-key, is not valid for this deployment, or has expired."
            if options["api_key"]
            else f"Give the key that `deployments create` showed, with {where}, or create one with "
            "`deployments keys create`."
        )
        raise
