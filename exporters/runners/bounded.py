"""Check the sizes of dynamic axes against the package's ranges before its artefact runs."""

from collections.abc import Mapping
from typing import Any

from ..base import Arrays, Dimension
from . import InputError, Runner, Stop, predict_until


class BoundedRunner:
    """A runner with limits. ``axes``: input → axis → name and range, for each axis with a limited range."""

    def __init__(self, runner: Runner, axes: Mapping[str, Mapping[int, tuple[str, Dimension]]]) -> None:
        self._runner = runner
        self.axes = axes
        self.inputs = runner.inputs
        self.outputs = runner.outputs

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the model. Raises InputError, also for a size that the source model does not accept."""
        self._check(inputs)
        return self._runner.predict(inputs)

    def predict_until(self, inputs: Arrays, stop: Stop) -> Arrays:
        """See ``predict`` and ``runners.predict_until``."""
        self._check(inputs)
        return predict_until(self._runner, inputs, stop)

    def _check(self, inputs: Arrays) -> None:
        for name, bounds in self.axes.items():
            shape = inputs[name].shape if name in inputs else ()
            for axis, (label, dimension) in bounds.items():
                if axis < len(shape) and not dimension.allows(shape[axis]):
                    raise InputError(
                        f"The axis {label!r} of the input {name!r} is {shape[axis]}; the model takes "
                        f"{text_of(dimension)}."
                    )


def most_rows(runner: Runner) -> int | None:
    """Return the largest batch that the runner's package accepts; None: any."""
    if not isinstance(runner, BoundedRunner):
        return None
    batches = [axes[0][1] for axes in runner.axes.values() if 0 in axes and axes[0][0] == "batch"]
    return batches[0].maximum if batches else None


def with_bounds(runner: Runner, metadata: Mapping[str, Any]) -> Runner:
    """Return the runner with the ranges of metadata.json; the runner itself if they limit nothing."""
    axes = bounds_of(metadata)
    return BoundedRunner(runner, axes) if axes else runner


def bounds_of(metadata: Mapping[str, Any]) -> dict[str, dict[int, tuple[str, Dimension]]]:
    """Return input → axis → its name and range, for the axes whose range excludes a size."""
    ranges = {
        name: Dimension(one["min"], one["max"], multiple=one.get("multiple", 1))
        for name, one in metadata.get("dynamic_axes", {}).items()
    }
    bounding = {name for name, one in ranges.items() if one != Dimension(one.minimum) or one.minimum > 1}
    axes = {
        spec["name"]: {
            axis: (size, ranges[size]) for axis, size in enumerate(spec["shape"]) if size in bounding
        }
        for spec in metadata.get("input_specs", ())
    }
    return {name: bounds for name, bounds in axes.items() if bounds}


def text_of(dimension: Dimension) -> str:
    parts = [f"at least {dimension.minimum}"] if dimension.minimum > 1 else []
    parts += [f"at most {dimension.maximum}"] if dimension.maximum is not None else []
    parts += [f"a multiple of {dimension.multiple}"] if dimension.multiple > 1 else []
    return ", ".join(parts) or "1 or more"
