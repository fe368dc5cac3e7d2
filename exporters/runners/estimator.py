"""Run a stored estimator with its own library, on the CPU; it is read through the same gate as uploads."""

import json
from pathlib import Path

import numpy as np

from ..base import Arrays, Source, TensorSpec
from ..errors import PackageCorrupt
from ..package import METADATA
from . import InputError, mismatch


class EstimatorRunner:
    """``predict`` does not change scikit-learn's estimators, so threads share one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.inputs = source.inputs
        _, probe = next(iter(source.probes()))
        answer = source.reference({name: array[:1] for name, array in probe.items()})
        self.outputs = tuple(
            TensorSpec(name, str(array.dtype), ("batch", *array.shape[1:])) for name, array in answer.items()
        )

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the estimator. float32 is accepted for a float64 input, because no value changes.

        Raises InputError for a wrong name, dtype or shape.
        """
        inputs = {
            name: array.astype(np.float64)
            if array.dtype == np.float32 and name == self.inputs[0].name and self.inputs[0].dtype == "float64"
            else array
            for name, array in inputs.items()
        }
        wrong = mismatch(self.inputs, inputs)
        if wrong:
            raise InputError(wrong)
        return self._source.reference(inputs)


def load(path: Path, threads: int = 1) -> EstimatorRunner:
    """Load the estimator. ``threads`` is ignored: the libraries use the process's settings.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``sources.estimators``.
        PackageCorrupt: it is not an estimator file of packages.
    """
    from ..sources import estimators

    if path.suffix != ".skops":
        raise PackageCorrupt(f"{path.name} is not a .skops file.", file=path.name)
    return EstimatorRunner(estimators.as_source(estimators.read(path), _input_dtype(path)))


def _input_dtype(path: Path) -> str:
    """Return the input's dtype in metadata.json, which is float32 in old packages; float64 by default."""
    try:
        document = json.loads((path.parent / METADATA).read_bytes())
        return str(document["input_spec"]["dtype"])
    except (OSError, ValueError, KeyError, TypeError):
        return "float64"
