"""Golden inputs and the source model's outputs for them, which every wrapper and server replays.

``golden.npz`` holds ``input:NAME`` and ``output:NAME`` arrays of one small batch. If image preprocessing is
declared, it also holds ``image:NAME``, uint8[H, W, 3], and ``processed:NAME``, the preprocessed image. For a
model that takes texts it holds ``text:NAME``: the texts whose counts are in the input. For a table with
columns of texts it holds ``column:NUMBER``, the values of the column with this number in metadata.json.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case, Derived, Labels
from ..errors import ConversionFailed, PackageCorrupt
from ..package import FIDELITY, GOLDEN, METADATA
from ..processing import embed_nms
from ..processing.image import prepare
from ..runners import Runner
from .verify import best_classes, compare_outputs


def choose(all_cases: Sequence[Case], labels: Mapping[str, Labels], precision: str | None = None) -> Case:
    """Return the base case; if its labels are ambiguous, the rows of another case whose labels are not.

    A label is ambiguous if two classes score the same within the tolerance. The result has as many rows as
    the base, or as many as there are. ``precision`` is the artefact's computing precision.

    Raises:
        ConversionFailed: there is no such row.
    """
    base = all_cases[0]
    if not labels:
        return base
    wanted = _rows(base)
    most: Case | None = None
    for case in all_cases:
        several = [
            best_classes(case.expected[one.scores], precision).sum(axis=1) > 1 for one in labels.values()
        ]
        finite = [np.isfinite(array).reshape(len(array), -1).all(axis=1) for array in case.inputs.values()]
        rows = np.flatnonzero(~np.any(several, axis=0) & np.all(finite, axis=0))[:wanted]
        if most is None or len(rows) > _rows(most):
            most = replace(case, inputs=_taken(case.inputs, rows), expected=_taken(case.expected, rows))
    if most is None or not _rows(most):
        raise ConversionFailed(
            "Two classes have the same score in every row that was tried, so the labels cannot be "
            "verified. Export with sample inputs that the model can tell apart."
        )
    return most


def _rows(case: Case) -> int:
    return len(next(iter(case.inputs.values())))


def _taken(arrays: Arrays, rows: npt.NDArray[Any]) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def write(
    path: Path,
    case: Case,
    metadata: Mapping[str, Any] | None = None,
    given: Mapping[str, npt.NDArray[Any]] | None = None,
) -> None:
    """Write the golden file. Equal cases give equal bytes: numpy dates archive members 1980, uncompressed.

    ``metadata`` is that of the package; if it declares preprocessing, an image for it is added. ``given``:
    the texts or columns that the input was made of, as they are in the file.
    """
    arrays = {f"input:{name}": array for name, array in case.inputs.items()}
    arrays |= {f"output:{name}": array for name, array in case.expected.items()}
    preprocessing = (metadata or {}).get("preprocessing")
    if preprocessing is not None and "tokenizer" not in preprocessing:
        name = next(iter(case.inputs))
        image = _image(preprocessing, case.inputs[name])
        arrays[f"image:{name}"] = image
        arrays[f"processed:{name}"], _ = prepare(image, preprocessing)
    arrays |= given or {}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: Path) -> Case:
    """Read a golden file. Raises PackageCorrupt if it is missing or unreadable."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as exc:
        raise PackageCorrupt(
            f"{path.name} cannot be read: it is missing or damaged. Export the model again.", file=path.name
        ) from exc
    return Case("golden", _part(arrays, "input:"), _part(arrays, "output:"))


def replay(folder: Path, runner: Runner) -> list[str]:
    """Return the outputs that differ from the golden ones; an empty list means that the package works here.

    Raises:
        PackageCorrupt: no golden inputs, or the artefact does not run them.
    """
    case = read(folder / GOLDEN)
    try:
        actual = runner.predict(case.inputs)
    except Exception as exc:
        raise PackageCorrupt(f"The artefact cannot run: {exc}") from exc
    reports = compare_outputs(case.expected, actual, precision(folder), derived=_derived(folder))
    return [name for name, report in reports.items() if not report["passed"]]


def precision(folder: Path) -> str | None:
    """Return the precision that the artefact computes in, from fidelity.json. It determines the tolerance."""
    try:
        precision: str | None = json.loads((folder / FIDELITY).read_bytes()).get("precision")
    except (OSError, ValueError, AttributeError) as exc:
        raise PackageCorrupt(
            f"The package's {FIDELITY} is missing or damaged: download the package again.", file=FIDELITY
        ) from exc
    return precision


def _image(preprocessing: Mapping[str, Any], tensor: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Create an image of smooth colours and noise, of an odd size: a wrong axis, colour or rounding shows.

    Without a resize the image has the size that the model takes.
    """
    height, width = 61, 83
    if preprocessing["resize"] is None:
        channels_first = preprocessing["format"]["output_layout"] == "NCHW" and not preprocessing["embedded"]
        height, width = tensor.shape[2:4] if channels_first else tensor.shape[1:3]
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 32, (height, width))
    channels = (rows * 223 // height + noise, columns * 223 // width + noise, (rows + columns) % 224 + noise)
    return np.stack(channels, axis=2).astype(np.uint8)


def _derived(folder: Path) -> Derived:
    """Return the outputs that the embedded postprocessing derives from the other outputs."""
    try:
        after = json.loads((folder / METADATA).read_bytes()).get("postprocessing")
    except (OSError, ValueError, AttributeError) as exc:
        raise PackageCorrupt(
            f"The package's {METADATA} is missing or damaged: download the package again.", file=METADATA
        ) from exc
    declared = (after or {}).get("embedded_from")
    if declared is None:
        return {}
    return {embed_nms.NAME: lambda outputs: embed_nms.derive(outputs, declared)}


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
