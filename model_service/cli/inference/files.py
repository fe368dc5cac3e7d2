"""The files of ``predict``: reading INPUT, and the arrays of --output."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import typer

from model_service.client import Prediction
from model_service.client.inference import tables
from model_service.client.inference.images import content_type
from model_service.client.inference.inputs import NPY_MAGIC, NPZ_MAGIC, npz


def read(source: str) -> tuple[Any, Any]:
    """Return ``inputs`` and ``records`` of ``predict``, one of them None.

    Inputs are the bytes of an image, a .npy or a .npz file, unchanged, or the content of JSON. Records are
    the path of a .csv or a .parquet file, or a list of objects in JSON.

    ``{"inputs": …}`` and ``{"records": …}``, the bodies of the route, work too.
    """
    if Path(source).suffix.lower() in tables.FILES:
        return None, source
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    if content.startswith((NPY_MAGIC, NPZ_MAGIC)) or content_type(content) is not None:
        return content, None
    try:
        value = json.loads(content)
    except ValueError as exc:
        raise typer.BadParameter(
            f"neither an image nor a .npy, .npz, .csv, .parquet or JSON file: {exc}", param_hint="INPUT"
        ) from None
    if isinstance(value, dict) and value.keys() in ({"inputs"}, {"records"}):
        return value.get("inputs"), value.get("records")
    is_table = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    return (None, value) if is_table else (value, None)


def arrays(inputs: Any, output: Path) -> Any:
    """Convert the input to arrays, for which the response is binary."""
    import numpy as np

    if output.suffix not in {".npz", ".npy"}:
        raise typer.BadParameter(f"the name {output} must end in .npz or .npy", param_hint="--output")
    if isinstance(inputs, bytes) and inputs.startswith((NPY_MAGIC, NPZ_MAGIC)):
        try:
            loaded = np.load(io.BytesIO(inputs), allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
        except Exception as exc:  # numpy and zipfile raise many types of errors for a damaged file
            raise typer.BadParameter(f"a damaged file: {exc}", param_hint="INPUT") from None
    try:
        if isinstance(inputs, list):
            return np.asarray(inputs)
        if isinstance(inputs, dict):
            return {name: np.asarray(value) for name, value in inputs.items()}
    except (ValueError, OverflowError) as exc:
        raise typer.BadParameter(f"not an array: {exc}", param_hint="INPUT") from None
    raise typer.BadParameter(
        "only arrays are written; an image, a text or records get predictions: use --json",
        param_hint="--output",
    )


def write(answer: Prediction, output: Path) -> None:
    import numpy as np

    if output.suffix == ".npy":
        if len(answer.outputs) != 1:
            names = ", ".join(answer.outputs)
            raise typer.BadParameter(
                f"a .npy file can hold only one of {names}: give a .npz", param_hint="--output"
            )
        np.save(output, *answer.outputs.values())
    else:
        output.write_bytes(npz(answer.outputs))
    shapes = ", ".join(f"{name} {each.dtype}{list(each.shape)}" for name, each in answer.outputs.items())
    typer.echo(f"{output}  {shapes}")
