"""TorchScript, as ``torch.jit.save`` writes it: code and weights; the request has to tell the shapes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import SCRIPT, Arrays, Dimension, Source
from ..errors import InvalidSource, UnsafeCheckpoint, as_limit
from ..request import Trust
from .inputs import parse as parse_inputs
from .tensors import flatten_outputs, to_numpy, to_torch

# TorchScript is interpreted by torch and its pickles know tensors only, but some operators reach the disk,
# and ``__setstate__`` runs while loading. Namespaces of extensions that are not ours to vet are refused too.
# torch's lexer takes spaces, comments and continued lines around a dot; and a name bound to torch or ops, or
# given to getattr, would hide what is called.
_GAP = rb"(?:\s|\\\r?\n|#[^\n]*)*"
_REACHES_OUT = re.compile(
    rb"\bfrom_file\b"
    rb"|\." + _GAP + rb"(?:save|load)\b"
    rb"|[\"'](?:save|load)[\"']"
    rb"|[=(,\[]" + _GAP + rb"(?:torch|ops)" + _GAP + rb"(?:[),\];]|\n|$)"
    rb"|(?<![\w.])ops\b(?!" + _GAP + rb"\." + _GAP + rb"(?:aten|prim|prims|torchvision)\b)"
)


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Raises InvalidSource, UnsafeCheckpoint; UnsupportedOption when ``inputs`` is missing or wrong."""
    import torch

    check_code(path)
    try:
        module = torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            "torch cannot read the TorchScript file: it is damaged, or was written by a newer torch. Save "
            "it again with torch.jit.save and upload that."
        ) from exc
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
    )


def check_code(path: Path) -> None:
    """Raises UnsafeCheckpoint: its code calls what reaches beyond the model; InvalidSource: it is damaged."""
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        # torch finds a part by its name in any case.
        names = reader.get_all_records()
        lowered = {name.lower() for name in names}
        if len(lowered) != len(names):
            raise UnsafeCheckpoint(
                "The TorchScript file holds two parts of one name, which is refused: torch could read "
                "another one than was checked. Save the model again with torch.jit.save."
            )
        if "model.json" in lowered:
            raise InvalidSource(
                "The TorchScript file is of a torch before 1.2. Save it again with a newer one."
            )
        for name in names:
            if name.lower().startswith("code/") and name.lower().endswith(".py"):
                found = _REACHES_OUT.search(reader.get_record(name))
                if found:
                    raise UnsafeCheckpoint(
                        f"The TorchScript code calls {found[0].decode()}, which is refused: it can reach "
                        "beyond the model. Remove the call and save the model again."
                    )
    except (RuntimeError, UnicodeDecodeError) as exc:
        raise as_limit(exc) or InvalidSource("The TorchScript file is damaged. Upload it again.") from exc
