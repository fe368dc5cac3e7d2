"""TorchScript, as ``torch.jit.save`` writes it: code and weights; the request has to tell the shapes."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import SCRIPT, Arrays, Dimension, Source, TensorSpec
from ..errors import InvalidSource, UnsafeCheckpoint, UnsupportedOption, as_limit
from .tensors import DTYPES, flatten_outputs, to_numpy, to_torch

# TorchScript is interpreted by torch and its pickles know tensors only, but some operators reach the disk,
# and ``__setstate__`` runs while loading. Namespaces of extensions that are not ours to vet are refused too.
_REACHES_OUT = re.compile(
    rb"\b(?:torch|aten)\.(?:save|load|from_file)\b|\bops\.(?!aten\b|prim\b|prims\b|torchvision\b)\w+"
)
_EXAMPLE = 'inputs=[{"name": "input", "shape": ["batch", 3, 224, 224], "dtype": "float32"}]'


def load(path: Path, options: Mapping[str, Any]) -> Source:
    """Raises InvalidSource, UnsafeCheckpoint; UnsupportedOption when ``inputs`` is missing or wrong."""
    import torch

    _check_code(path)
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
    inputs = _input_specs(options.get("inputs"), arguments)
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


def _check_code(path: Path) -> None:
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        for name in reader.get_all_records():
            if name.startswith("code/") and name.endswith(".py"):
                found = _REACHES_OUT.search(reader.get_record(name))
                if found:
                    raise UnsafeCheckpoint(
                        f"The TorchScript code calls {found[0].decode()}, which is refused: it can reach "
                        "beyond the model. Remove the call and save the model again."
                    )
    except RuntimeError as exc:
        raise as_limit(exc) or InvalidSource("The TorchScript file is damaged. Upload it again.") from exc


def _input_specs(given: Any, arguments: list[str]) -> tuple[TensorSpec, ...]:
    if not given:
        raise UnsupportedOption(
            f"TorchScript does not record the shapes of its inputs ({', '.join(arguments)}). Tell them "
            f"with the option inputs, for example {_EXAMPLE}; a name in a shape is an axis of any size.",
            allowed=_EXAMPLE,
            option="inputs",
        )
    if len(given) != len(arguments):
        raise _wrong(
            f"has {len(given)} entries, but the model takes {len(arguments)}: {', '.join(arguments)}"
        )
    specs = []
    for entry, argument in zip(given, arguments, strict=True):
        if not isinstance(entry, dict) or set(entry) - {"name", "shape", "dtype"} or "shape" not in entry:
            raise _wrong("needs entries of name, shape and dtype")
        name, dtype, shape = entry.get("name", argument), entry.get("dtype", "float32"), entry["shape"]
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise _wrong("has a name that is not a plain identifier")
        if dtype not in DTYPES:
            raise _wrong(f"has a dtype that is not one of {', '.join(DTYPES)}")
        if not isinstance(shape, list) or not all(map(_is_axis, shape)):
            raise _wrong("has a shape that is not a list of sizes and axis names")
        specs.append(TensorSpec(name, dtype, tuple(shape)))
    if len({spec.name for spec in specs}) != len(specs):
        raise _wrong("uses a name twice")
    return tuple(specs)


def _is_axis(size: Any) -> bool:
    if isinstance(size, str):
        return re.fullmatch(r"[A-Za-z_]\w*", size) is not None
    return isinstance(size, int) and not isinstance(size, bool) and size > 0


def _wrong(what: str) -> UnsupportedOption:
    return UnsupportedOption(
        f"The option inputs {what}. Example: {_EXAMPLE}.", allowed=_EXAMPLE, option="inputs"
    )
