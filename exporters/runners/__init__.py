"""Run an artefact: ``load(package_dir)`` chooses the runner by the package's metadata.json.

The inference server uses this package: importing it loads no runtime.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..base import Arrays, TensorSpec
from ..errors import PackageCorrupt, UnsupportedOption

# Format → the module that runs it. Each has ``load(path, threads)``; _OPTIONS lists further arguments.
_RUNNERS = {
    "onnx": "exporters.runners.onnx",
    "pickle": "exporters.runners.estimator",
    "openvino": "exporters.runners.openvino",
    "tensorrt": "exporters.runners.tensorrt",
    "torchscript": "exporters.runners.torchscript",
    "pt2": "exporters.runners.pt2",
    "tflite": "exporters.runners.tflite",
    "coreml": "exporters.runners.coreml",
    "pytorch": "exporters.runners.pytorch",
}

_OPTIONS = {"onnx": ("gpu", "spin"), "openvino": ("gpu",)}


# (name of an axis, its (input, axis) positions)
SharedAxes: TypeAlias = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
# Prefix of a runner's name for an axis without a name in the artefact.
UNNAMED = "dim_"


class InputError(ValueError):
    """The caller's input is wrong: a name, a dtype or a shape. A runner's other errors are its own faults."""


class NotExecutable(Exception):
    """The format's runtime does not exist on this platform; the message tells the user."""


class Stop:
    """Ends a run from another thread, if its runtime supports that; otherwise the run continues."""

    def __init__(self) -> None:
        self.requested = False
        self._end: Callable[[], None] | None = None

    def by(self, end: Callable[[], None]) -> None:
        """Set the function that ends the run that is about to begin."""
        self._end = end
        if self.requested:
            end()

    def ask(self) -> None:
        self.requested = True
        if self._end is not None:
            self._end()


class Runner(Protocol):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the model, name → array to name → array. Raises InputError. Thread-safe."""


def predict_until(runner: Runner, inputs: Arrays, stop: Stop) -> Arrays:
    """Call ``runner.predict`` so that ``stop`` can end it early; then the runtime's own error is raised."""
    run: Callable[[Arrays, Stop], Arrays] | None = getattr(runner, "predict_until", None)
    return runner.predict(inputs) if run is None else run(inputs, stop)


def load(package_dir: Path, threads: int = 1, *, gpu: bool = False, spin: bool = False) -> Runner:
    """Return the runner of an unpacked package, which rejects sizes that its source does not accept.

    ``threads``: how many cores one call may use.

    Args:
        gpu: use the machine's graphics processor, if there is one and the format's runtime supports it.
        spin: let threads wait for each other by spinning, if the format's runtime supports it: calls are
            faster, and everything else on the machine is slower.

    Raises:
        PackageCorrupt: no readable metadata.json.
        UnsupportedOption, NotExecutable: no runner for its format, or not here.
    """
    try:
        metadata = json.loads((package_dir / "metadata.json").read_bytes())
        name = metadata["model_info"]["export_format"]
        primary = metadata["artefact"]["files"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
        raise PackageCorrupt(
            "The package's metadata.json is missing or damaged: download the package again.",
            file="metadata.json",
        ) from exc
    from .bounded import with_bounds

    return with_bounds(open_artefact(name, package_dir / primary, threads, gpu=gpu, spin=spin), metadata)


def open_artefact(
    format_name: str, path: Path, threads: int = 1, *, gpu: bool = False, spin: bool = False
) -> Runner:
    """Return the runner of a bare artefact of the format; arguments as for ``load``.

    Raises:
        UnsupportedOption: no runner for it.
        NotExecutable: there is one, but not on this platform.
    """
    if format_name not in _RUNNERS:
        raise UnsupportedOption(
            f"There is no runner for {format_name!r}.", allowed=list(_RUNNERS), option="format"
        )
    module: Any = import_module(_RUNNERS[format_name])
    given = {"gpu": gpu, "spin": spin}
    runner: Runner = module.load(
        path, threads, **{name: given[name] for name in _OPTIONS.get(format_name, ())}
    )
    return runner


def mismatch(specs: Sequence[TensorSpec], inputs: Arrays) -> str | None:
    """Return what is wrong with the inputs (a name, a dtype, a shape), for the caller; None if they fit."""
    names = {spec.name for spec in specs}
    if set(inputs) != names:
        return f"The inputs must be {_list(names)}, not {_list(inputs)}."
    for spec in specs:
        array = inputs[spec.name]
        if str(array.dtype) != spec.dtype:
            return f"The input {spec.name!r} must be {spec.dtype}, not {array.dtype}."
        fits = len(array.shape) == len(spec.shape) and all(
            isinstance(want, str) or want == have for want, have in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            return f"The input {spec.name!r} must have the shape {list(spec.shape)}, not {list(array.shape)}."
    if unequal := unequal_axes(shared_axes(specs), inputs):
        return f"The input {unequal[0]!r} {unequal[1]}."
    return None


def shared_axes(specs: Sequence[TensorSpec]) -> SharedAxes:
    """Return the named axes that occur more than once: their sizes must be equal."""
    places: dict[str, list[tuple[str, int]]] = {}
    for spec in specs:
        for axis, size in enumerate(spec.shape):
            if isinstance(size, str) and not size.startswith(UNNAMED):
                places.setdefault(size, []).append((spec.name, axis))
    return tuple((name, tuple(found)) for name, found in places.items() if len(found) > 1)


def unequal_axes(shared: SharedAxes, inputs: Arrays) -> tuple[str, str] | None:
    """Return the first input with another size of a shared axis, and what is wrong with it."""
    for name, places in shared:
        (first, first_axis), *others = places
        size = inputs[first].shape[first_axis]
        for other, axis in others:
            if inputs[other].shape[axis] != size:
                return other, (
                    f"has the size {inputs[other].shape[axis]} on axis {axis}, {name!r}, but "
                    f"{first!r} has {size}"
                )
    return None


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(map(repr, names))) or "none"
