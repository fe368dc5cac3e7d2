"""Run an artefact: ``load(package_dir)`` picks the runner by the package's metadata.json.

Serving uses these: importing this package loads no runtime.
"""

import json
from pathlib import Path
from typing import Protocol

from ..base import Arrays, TensorSpec
from ..errors import PackageCorrupt, UnsupportedOption


class InputError(ValueError):
    """The caller's input is wrong: a name, a dtype or a shape. All else a runner raises is its own fault."""


class Runner(Protocol):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def predict(self, inputs: Arrays) -> Arrays:
        """Name → array in, name → array out. Raises InputError; may be called by several threads at once."""


def load(package_dir: Path, threads: int = 1) -> Runner:
    """The runner of an unpacked package; ``threads``: how many cores one call may use.

    Raises:
        PackageCorrupt: no readable metadata.json.
        UnsupportedOption: no runner for its format on this platform.
    """
    try:
        metadata = json.loads((package_dir / "metadata.json").read_bytes())
        name = metadata["model_info"]["export_format"]
        primary = metadata["artefact"]["files"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
        raise PackageCorrupt("The package has no readable metadata.json.", file="metadata.json") from exc
    return open_artefact(name, package_dir / primary, threads)


def open_artefact(format_name: str, path: Path, threads: int = 1) -> Runner:
    """The runner of a bare artefact of the format.

    Raises:
        UnsupportedOption: no runner for it on this platform.
    """
    if format_name != "onnx":
        raise UnsupportedOption(
            f"There is no runner for {format_name!r} here.", allowed=["onnx"], option="format"
        )
    from . import onnx

    return onnx.load(path, threads)
