"""TorchScript of ``torch.jit.save``: code and weights; the request declares the shapes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import SCRIPT, Arrays, Dimension, Source
from ..errors import InvalidSource, as_limit
from ..request import Trust
from . import operators, torchscript_gate
from .inputs import parse as parse_inputs
from .tensors import flatten_outputs, to_numpy, to_torch


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the module as a source.

    Raises:
        InvalidSource, UnsafeCheckpoint: as ``read``.
        UnsupportedOption: ``inputs`` is missing or wrong.
    """
    import torch

    module = read(path)
    arguments = [
        argument.name for argument in module.forward.schema.arguments[1:] if not argument.has_default_value()
    ]
    inputs = parse_inputs(options.get("inputs"), arguments, "TorchScript")
    dimensions = {size: Dimension() for spec in inputs for size in spec.shape if isinstance(size, str)}

    def shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        return {
            spec.name: tuple(size if isinstance(size, int) else sizes[size] for size in spec.shape)
            for spec in inputs
        }

    def reference(arrays: Arrays) -> Arrays:
        with torch.no_grad():
            answer = module(*(to_torch(arrays[spec.name]) for spec in inputs))
        outputs = flatten_outputs(answer, {spec.name for spec in inputs})
        return {name: to_numpy(value) for name, value in outputs.items()}

    used = operators.of_script(module)
    return Source(
        kind="torchscript",
        family=SCRIPT,
        program=module,
        inputs=inputs,
        dimensions=dimensions,
        symbols={},
        reference=reference,
        shapes=shapes,
        integers={},
        operators=used.names,
        steps=used.steps,
    )


def read(path: Path, extra: dict[str, str] | None = None) -> Any:
    """Return the checked module on the CPU, in evaluation mode; the archive's texts go into ``extra``.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``torchscript_gate``.
        InvalidSource: torch cannot read it.
    """
    import torch

    torchscript_gate.check_archive(path)
    try:
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra).eval()
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            "torch cannot read the TorchScript file: it was cut short, or written by a newer "
            "torch. Save it again with torch.jit.save and upload that."
        ) from exc
    torchscript_gate.check_graph(module)
    return module
