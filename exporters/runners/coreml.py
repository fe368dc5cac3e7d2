"""Run Core ML, on macOS only. On other platforms an ``.mlpackage`` cannot be opened."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..base import Arrays, TensorSpec
from . import InputError, NotExecutable, mismatch


class CoremlRunner:
    """Runs a model through coremltools' ``predict``, one call at a time."""

    def __init__(self, model: Any, interface: dict[str, Any]) -> None:
        self._model = model
        self._lock = threading.Lock()
        self.inputs = tuple(map(TensorSpec.from_json, interface["inputs"]))
        self.outputs = tuple(map(TensorSpec.from_json, interface["outputs"]))

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the model. Raises InputError for a wrong name, dtype or shape, or integers beyond 32 bits."""
        wrong = mismatch(self.inputs, inputs)
        if wrong:
            raise InputError(wrong)
        narrowed = {name: _narrow(name, array) for name, array in inputs.items()}
        with self._lock:
            answer = self._model.predict(narrowed)
        return {spec.name: np.asarray(answer[spec.name]).astype(spec.dtype) for spec in self.outputs}


def load(path: Path, threads: int = 1) -> CoremlRunner:
    """Load the package of the Manifest.json in ``path``. Core ML chooses its threads itself.

    Raises:
        NotExecutable: not on macOS.
        coremltools' own errors: the package is damaged.
    """
    if sys.platform != "darwin":
        raise NotExecutable(
            "Core ML only runs on Apple's systems. Run the package's golden inputs on a Mac: "
            "python runtimes/python/model_wrapper.py --replay"
        )
    import coremltools

    folder = str(path.parent)
    known = coremltools.utils.load_spec(folder).description.metadata.userDefined
    units = coremltools.ComputeUnit[known["compute_units"].upper()]
    return CoremlRunner(
        coremltools.models.MLModel(folder, compute_units=units), json.loads(known["interface"])
    )


def _narrow(name: str, array: Any) -> Any:
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    limits = np.iinfo(np.int32)
    if array.size and array.dtype.kind in "iu" and not limits.min <= array.min() <= array.max() <= limits.max:
        raise InputError(f"The input {name!r} has a number that does not fit into 32 bits.")
    return array.astype(np.int32)
