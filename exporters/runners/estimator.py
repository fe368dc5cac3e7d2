"""A stored estimator through its own library, on the CPU; read by the same gate as any other."""

from pathlib import Path

from ..base import Arrays, Source, TensorSpec
from ..errors import PackageCorrupt
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
        """Raises InputError for a wrong name, dtype or shape."""
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
    return EstimatorRunner(estimators.as_source(estimators.read(path)))
