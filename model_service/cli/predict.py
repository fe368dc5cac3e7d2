"""``model-service predict``."""

import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from model_service.cli.deployment_options import id_of
from model_service.cli.kept_keys import kept_key
from model_service.cli.options import given
from model_service.cli.output import Json, client_of, emit
from model_service.cli.predictions import heading, table
from model_service.client import Deployment, ModelServiceClient, Prediction, Unauthorized
from model_service.client.images import content_type
from model_service.client.inputs import NPY_MAGIC, NPZ_MAGIC, npz


def predict(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(metavar="DEPLOYMENT", help="An id, a name that it alone has, or an endpoint's URL."),
    ],
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]", help="An image, a .npy, .npz or JSON file, or - for one of them from stdin."
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A text, for a model that takes texts; no INPUT then.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar="MODEL_SERVICE_DEPLOYMENT_KEY",
            help="The deployment's key, pk_…; by default what --keep-key kept.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which one, of a deployment of several.")
    ] = None,
    confidence_threshold: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of a detector: boxes below it are left out.")
    ] = None,
    iou_threshold: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Of a detector: boxes that overlap more are one.")
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(metavar="N", help="Of a detector: how many boxes at most.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(metavar="N", help="Of a classifier: how many classes.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the outputs of arrays, in binary, to this .npz or .npy file."
        ),
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="How long to wait for the answer.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a deployment. JSON is a nested list, or an object of them by input name; the batch comes first."""
    if (source is None) == (text is None):
        raise typer.BadParameter("give an input, or --text", param_hint="INPUT")
    inputs = None if source is None else _read(source)
    asked = given(
        {
            "text": text,
            "model": model,
            "confidence_threshold": confidence_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
            "top_k": top_k,
            "timeout_s": timeout,
        }
    )
    client = client_of(context)
    target, kept = _target(client, deployment)
    if output is not None:
        inputs = _arrays(inputs, output)
    answer = _ask(client, target, inputs, key or kept, asked)
    if output is not None:
        _write(answer, output)
    elif as_json:
        sys.stdout.write(json.dumps(answer.raw) + "\n")  # a line for each answer, as programs like it
    else:
        emit(answer.raw, False, heading(answer), table(answer))


def _target(client: ModelServiceClient, deployment: str) -> tuple[str | Deployment, str | None]:
    """What to ask, and its key, where one was kept on this machine."""
    if "://" in deployment:
        return deployment, None
    deployment_id = id_of(client, deployment)
    return deployment_id, kept_key(deployment_id)


def _ask(
    client: ModelServiceClient,
    target: str | Deployment,
    inputs: Any,
    key: str | None,
    asked: dict[str, Any],
) -> Prediction:
    try:
        return client.predict(target, inputs, api_key=key, **asked)
    except Unauthorized as exc:
        where = "--key or MODEL_SERVICE_DEPLOYMENT_KEY"
        exc.add_note(
            f"The key that {where} gives, or --keep-key kept, is not this deployment's, or holds no longer."
            if key
            else f"Give the key that `deployments create` showed with {where}, or make one with "
            "`deployments keys create`."
        )
        raise


def _read(source: str) -> Any:
    """The bytes of an image, a .npy or a .npz file as they are, or JSON; ``{"inputs": …}``, the route's own
    body, works too."""
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    if content.startswith((NPY_MAGIC, NPZ_MAGIC)) or content_type(content) is not None:
        return content
    try:
        value = json.loads(content)
    except ValueError as exc:
        raise typer.BadParameter(
            f"neither an image nor a .npy, .npz or JSON file: {exc}", param_hint="INPUT"
        ) from None
    return value["inputs"] if isinstance(value, dict) and value.keys() == {"inputs"} else value


def _arrays(inputs: Any, output: Path) -> Any:
    """What is answered in binary: arrays."""
    import numpy as np

    if output.suffix not in {".npz", ".npy"}:
        raise typer.BadParameter(f"{output} is no .npz and no .npy file", param_hint="--output")
    if isinstance(inputs, bytes) and inputs.startswith((NPY_MAGIC, NPZ_MAGIC)):
        try:
            loaded = np.load(io.BytesIO(inputs), allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
        except Exception as exc:  # numpy and zipfile have many words for a damaged file
            raise typer.BadParameter(f"a damaged file: {exc}", param_hint="INPUT") from None
    try:
        if isinstance(inputs, list):
            return np.asarray(inputs)
        if isinstance(inputs, dict):
            return {name: np.asarray(value) for name, value in inputs.items()}
    except (ValueError, OverflowError) as exc:
        raise typer.BadParameter(f"no array: {exc}", param_hint="INPUT") from None
    raise typer.BadParameter(
        "an image or a text is answered with predictions, not arrays", param_hint="--output"
    )


def _write(answer: Prediction, output: Path) -> None:
    import numpy as np

    if output.suffix == ".npy":
        if len(answer.outputs) != 1:
            names = ", ".join(answer.outputs)
            raise typer.BadParameter(f"a .npy file holds one of {names}: name a .npz", param_hint="--output")
        np.save(output, *answer.outputs.values())
    else:
        output.write_bytes(npz(answer.outputs))
    shapes = ", ".join(f"{name} {each.dtype}{list(each.shape)}" for name, each in answer.outputs.items())
    typer.echo(f"{output}  {shapes}")
