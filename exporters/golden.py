"""Inputs and the source model's answers, kept with the package: what every wrapper and server replays.

``golden.npz`` holds ``input:NAME`` and ``output:NAME`` arrays of one small batch.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from .base import Arrays, Case
from .errors import PackageCorrupt
from .package import GOLDEN
from .runners import Runner
from .verify import compare_outputs


def write(path: Path, case: Case) -> None:
    """Equal cases give equal bytes: numpy dates the members of an archive 1980, and uncompressed."""
    arrays = {f"input:{name}": array for name, array in case.inputs.items()}
    arrays |= {f"output:{name}": array for name, array in case.expected.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read(path: Path) -> Case:
    """Raises PackageCorrupt when it is missing or no such file."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: Arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, BadZipFile, EOFError) as exc:
        raise PackageCorrupt(f"{path.name} cannot be read.", file=path.name) from exc
    return Case("golden", _part(arrays, "input:"), _part(arrays, "output:"))


def replay(folder: Path, runner: Runner) -> list[str]:
    """The outputs that are not the golden ones here: none, where the package works as it was proven.

    Raises:
        PackageCorrupt: no golden inputs, or the artefact does not run them.
    """
    case = read(folder / GOLDEN)
    try:
        actual = runner.predict(case.inputs)
    except Exception as exc:
        raise PackageCorrupt(f"The artefact does not run: {exc}") from exc
    reports = compare_outputs(case.expected, actual)
    return [name for name, report in reports.items() if not report["passed"]]


def _part(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
