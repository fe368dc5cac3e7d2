"""Export a torch network to a folder for the Python classes of deployment, and check such a folder.

The folder is a package. The format ``pickle`` stores the files of the format ``pytorch`` in one pickle of a
dictionary, name → bytes, and has no wrappers. It names no class, so opening it cannot run code, and
``unpack`` rejects every pickle that does.
"""

import json
import math
import pickle
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import architecture, convert, package, registry, runners, sources
from .base import FAMILIES, PROGRAM, SCRIPT, Progress, StepEnded
from .errors import InvalidSource, PackageCorrupt, UnsafeCheckpoint, UnsupportedOption
from .formats import torch_to_pytorch
from .proof import golden
from .proof.verify import compare_outputs
from .request import ExportRequest
from .sources.advice import SAVE_AS_PROGRAM

FORMATS = ("pytorch", "onnx", "pickle")
PICKLE = "model.pkl"
_PICKLED = {torch_to_pytorch.WEIGHTS, torch_to_pytorch.PROGRAM_NAME, torch_to_pytorch.SCRIPT_NAME}


def export(request: ExportRequest, progress: Progress, step_ended: StepEnded) -> dict[str, Any]:
    """Convert the network and compare the result with it, in ``request.output_dir``.

    Returns:
        ``files``, the names of the model's files, the one to open first; ``architecture_hash``,
        ``parameter_count``, ``input_dimension``, ``output_dimension``.

    Raises:
        ExportError: as ``convert.run``; InvalidSource: the file is no torch network.
        UnsupportedOption: the format is not one of FORMATS.
    """
    if request.format not in FORMATS:
        raise UnsupportedOption(
            f"There is no format {request.format[:64]!r} here; the formats are {', '.join(FORMATS)}.",
            allowed=list(FORMATS),
            option="format",
        )
    kind = sources.detect(request.source)
    if FAMILIES[kind] not in (PROGRAM, SCRIPT):
        raise InvalidSource(
            f"The file is a model of the kind {kind}, but only networks of torch have an architecture hash "
            "and a parameter count. Export it with an export job of the registry."
        )
    pickled = request.format == "pickle"
    request = replace(request, format="pytorch" if pickled else request.format)
    try:
        result = convert.run(request, progress, step_ended)
    except UnsupportedOption as exc:
        if exc.details.get("option") not in ("inputs", "architecture"):
            raise
        raise InvalidSource(
            f"The file does not say what its {exc.details['option']} is. {SAVE_AS_PROGRAM}"
        ) from exc
    folder = result.package_dir
    metadata = json.loads((folder / package.METADATA).read_bytes())
    files = list(metadata["artefact"]["files"])
    if pickled:
        files = _pack(folder, files)
        package.write_manifest(folder)
    options = registry.specification(request.format).validate(request.options)
    source = sources.load(request.source, options, request.trust)
    return {"files": files, **architecture.describe(source), **_dimensions(folder)}


def check(folder: Path) -> dict[str, Any]:
    """Check the files of an exported network, and run its golden inputs.

    Returns:
        ``input_dimension``, ``output_dimension``; ``rows``, how many golden inputs there are; ``outputs``,
        name → ``{"max_abs", "max_rel", "cosine", "passed", …}``.

    Raises:
        PackageCorrupt: a file is missing, changed or unreadable, or the network does not run.
        UnsafeCheckpoint: a pickle that names a class, or a program that the gate rejects.
    """
    package.verify(folder)
    case = golden.read(folder / package.GOLDEN)
    with tempfile.TemporaryDirectory() as scratch:
        opened = folder
        if (folder / PICKLE).exists():
            opened = Path(scratch)
            shutil.copyfile(folder / package.METADATA, opened / package.METADATA)
            unpack(folder / PICKLE, opened)
        try:
            actual = runners.load(opened).predict(case.inputs)
        except RuntimeError as exc:  # weights that do not fit the architecture
            raise PackageCorrupt(f"The network cannot be loaded: {str(exc).strip()[:300]}") from exc
        except runners.InputError as exc:
            raise PackageCorrupt(f"The network does not accept its golden inputs: {exc}") from exc
    outputs = compare_outputs(case.expected, actual, golden.precision(folder))
    rows = len(next(iter(case.inputs.values())))
    return {"rows": rows, "outputs": outputs, **_dimensions(folder)}


def unpack(path: Path, folder: Path) -> None:
    """Write the files of a pickled network into ``folder``.

    Raises:
        UnsafeCheckpoint: the pickle names a class or a function.
        PackageCorrupt: it is no pickle of such files.
    """
    try:
        with path.open("rb") as file:
            found = _PlainUnpickler(file).load()
    except UnsafeCheckpoint:
        raise
    except Exception as exc:  # a damaged pickle raises errors of any kind
        raise PackageCorrupt(f"{path.name} is damaged: {type(exc).__name__}.", file=path.name) from exc
    if not isinstance(found, dict) or not set(found) <= _PICKLED:
        raise PackageCorrupt(f"{path.name} is not a dictionary of a network's files.", file=path.name)
    for name, content in found.items():
        if not isinstance(content, bytes):
            raise PackageCorrupt(f"{name} in {path.name} is not bytes.", file=path.name)
        (folder / name).write_bytes(content)


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values. A pickle runs code only through the classes and functions that it names."""

    def find_class(self, module: str, name: str) -> Any:
        raise UnsafeCheckpoint(
            f"The pickle names {module[:60]}.{name[:60]}: loading it would run code. A pickle of these "
            "classes contains bytes only."
        )


def _pack(folder: Path, files: list[str]) -> list[str]:
    """Put the files into one pickle, and remove them with the wrappers and the README, which are for them."""
    content = {name: (folder / name).read_bytes() for name in files}
    with (folder / PICKLE).open("wb") as file:
        pickle.dump(content, file, protocol=4)
    for name in (*files, package.README):
        (folder / name).unlink()
    shutil.rmtree(folder / "runtimes")
    return [PICKLE]


def _dimensions(folder: Path) -> dict[str, int]:
    """Return the numbers in a row of the first input and output. The first axis of each is the batch."""
    case = golden.read(folder / package.GOLDEN)
    first_input, first_output = next(iter(case.inputs.values())), next(iter(case.expected.values()))
    return {
        "input_dimension": math.prod(first_input.shape[1:]),
        "output_dimension": math.prod(first_output.shape[1:]),
    }
