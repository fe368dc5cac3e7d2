"""The configuration of a package's model for the Triton Inference Server."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ..wrappers.rendering import render
from . import archive
from .errors import DeliveryError

# format → backend of Triton, and the file that it opens
_BACKENDS = {
    "onnx": ("onnxruntime", "model.onnx"),
    "openvino": ("openvino", "model.xml"),
    "torchscript": ("pytorch", "model.pt"),
    "tensorrt": ("tensorrt", "model.plan"),
}
_DEFAULT_BATCH = 64


def configuration(package: archive.Package) -> str:
    """Return config.pbtxt: the inputs and outputs of the artefact, as metadata.json describes its graph.

    If the rows of a batch are independent and every input and output has the batch as the first of several
    axes, Triton may put several requests into one batch. Otherwise the shapes are those of the graph.

    Raises:
        DeliveryError: Triton has no backend for the format.
    """
    if package.format not in _BACKENDS:
        raise DeliveryError(
            f"Triton has no backend for {package.format}. Choose the form server, or export one of "
            f"{', '.join(_BACKENDS)}."
        )
    backend, file = _BACKENDS[package.format]
    metadata = package.metadata
    inputs, outputs = metadata["input_specs"], list(metadata["output_spec"].values())
    batched = bool(metadata["batch"].get("independent_rows")) and all(
        spec["shape"][:1] == ["batch"] and len(spec["shape"]) > 1 for spec in (*inputs, *outputs)
    )
    maximum = (metadata["dynamic_axes"].get("batch") or {}).get("max")
    return render(
        "container/triton/config.pbtxt.jinja",
        {
            "backend": backend,
            "file": file,
            "max_batch_size": (maximum or _DEFAULT_BATCH) if batched else 0,
            "inputs": _tensors(package, inputs, "INPUT", batched),
            "outputs": _tensors(package, outputs, "OUTPUT", batched),
        },
    )


def copies(package: archive.Package) -> dict[str, str]:
    """Return path in the package → path below the model's version, for each file of the artefact."""
    first, *others = package.artefact
    name = _BACKENDS[package.format][1]
    found = {first: name}
    for other in others:
        # OpenVINO finds its weights by the name of model.xml; ONNX stores the name of its file of weights.
        found[other] = (
            name.replace(".xml", ".bin") if package.format == "openvino" else PurePosixPath(other).name
        )
    return found


def name_of(package: archive.Package, spec: Mapping[str, Any], kind: str, position: int) -> str:
    """Return Triton's name of a tensor; its backend for TorchScript only knows positions.

    ``kind``: INPUT or OUTPUT.
    """
    return f"{kind}__{position}" if package.format == "torchscript" else str(spec["name"])


def _tensors(
    package: archive.Package, specs: Sequence[Mapping[str, Any]], kind: str, batched: bool
) -> list[dict[str, Any]]:
    found = []
    for position, spec in enumerate(specs):
        dims = [size if isinstance(size, int) else -1 for size in spec["shape"]]
        found.append(
            {
                "name": name_of(package, spec, kind, position),
                "type": f"TYPE_{spec['dtype'].upper().replace('FLOAT', 'FP')}",
                "dims": dims[1:] if batched else dims,
            }
        )
    return found
