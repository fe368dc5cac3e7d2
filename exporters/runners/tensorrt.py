"""Run a TensorRT engine on the GPU that it was built for."""

from pathlib import Path
from typing import Any

from ..base import Arrays, TensorSpec
from ..wrappers.tensorrt import build_engine
from . import InputError, NotExecutable, mismatch


class TensorRtRunner:
    """One engine; calls run one after the other on the GPU."""

    def __init__(self, engine: build_engine.Engine) -> None:
        self._engine = engine
        self.inputs = tuple(_spec(name, *kind) for name, kind in engine.inputs.items())
        self.outputs = tuple(_spec(name, *kind) for name, kind in engine.outputs.items())

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the engine. Raises InputError for a wrong name, dtype or shape, or one outside its profile."""
        wrong = mismatch(self.inputs, inputs)
        if wrong:
            raise InputError(wrong)
        try:
            return self._engine.predict(inputs)
        except ValueError as exc:
            raise InputError(str(exc)) from exc


def load(path: Path, threads: int = 1) -> TensorRtRunner:
    """Load the engine in ``path``. ``threads`` has no effect on a GPU.

    Raises:
        NotExecutable: it is not built yet, or TensorRT or its GPU is not here.
        build_engine.BuildFailed: the file is damaged.
    """
    if path.suffix == ".onnx":
        raise NotExecutable("The engine is built on its target: run build_engine.py of this package there.")
    try:
        return TensorRtRunner(build_engine.Engine(path))
    except build_engine.NotHere as exc:
        raise NotExecutable(str(exc)) from exc


def _spec(name: str, dtype: Any, shape: tuple[int, ...]) -> TensorSpec:
    axes = tuple(size if size >= 0 else f"dim_{axis}" for axis, size in enumerate(shape))
    return TensorSpec(name, str(dtype), axes)
