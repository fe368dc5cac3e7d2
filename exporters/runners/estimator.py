"""A stored estimator through its own library, on the CPU; read by the same gate as any other."""

import json
from pathlib import Path

import numpy as np

from ..base import Arrays, Source, TensorSpec
from ..errors import PackageCorrupt
from ..package import METADATA
from . import InputError, mismatch


class EstimatorRunner:
    """scikit-learn's estimators are not changed by ``predict``: threads share one."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.inputs = source.inputs
        _, probe = next(iter(source.probes()))
        answer = source.reference({name: array[:1] for name, array in probe.items()})
        self.outputs = tuple(
            TensorSpec(name, str(array.dtype), ("batch", *array.shape[1:])) for name, array in answer.items()
        )

    def predict(self, inputs: Arrays) -> Arrays:
        """float32 is taken where the input is float64: it is the same number.

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
    """``threads`` is not asked: the libraries compute with what the process was given.

    Raises:
        UnsafeCheckpoint, InvalidSource: as ``sources.estimators``.
        PackageCorrupt: it is none of the estimators that packages hold.
    """
    from ..sources import estimators

    if path.suffix != ".skops":
        raise PackageCorrupt(f"{path.name} is no .skops file.", file=path.name)
    return EstimatorRunner(estimators.as_source(estimators.read(path), _input_dtype(path)))


def _input_dtype(path: Path) -> str:
    """float32 of a package from before its input was the estimator's own; float64 of every other."""
    try:
        document = json.loads((path.parent / METADATA).read_bytes())
        return str(document["input_spec"]["dtype"])
    except (OSError, ValueError, KeyError, TypeError):
        return "float64"
