"""ONNX through onnxruntime, on the CPU."""

from pathlib import Path
from typing import Any

from ..base import Arrays, TensorSpec
from . import InputError

_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class OnnxRunner:
    """One session. onnxruntime itself checks names, dtypes, ranks and fixed sizes."""

    def __init__(self, session: Any) -> None:
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        self._session = session
        self._refused = InvalidArgument
        self.inputs = tuple(map(_spec, session.get_inputs()))
        self.outputs = tuple(map(_spec, session.get_outputs()))
        self._names = [spec.name for spec in self.outputs]
        self._expected = {spec.name for spec in self.inputs}

    def predict(self, inputs: Arrays) -> Arrays:
        """Raises InputError for a wrong name, dtype or shape; anything else is the runtime's own failure."""
        try:
            return dict(zip(self._names, self._session.run(self._names, inputs), strict=True))
        except (self._refused, ValueError) as exc:
            raise InputError(self._explain(inputs, exc)) from exc

    def _explain(self, inputs: Arrays, exc: Exception) -> str:
        """What is wrong, in the caller's terms: onnxruntime speaks of its own types."""
        if set(inputs) != self._expected:
            return f"The inputs are {_list(self._expected)}, not {_list(inputs)}."
        for spec in self.inputs:
            array = inputs[spec.name]
            if str(array.dtype) != spec.dtype:
                return f"The input {spec.name!r} is {spec.dtype}, not {array.dtype}."
            fits = len(array.shape) == len(spec.shape) and all(
                isinstance(want, str) or want == have
                for want, have in zip(spec.shape, array.shape, strict=True)
            )
            if not fits:
                return f"The input {spec.name!r} has the shape {list(spec.shape)}, not {list(array.shape)}."
        return f"The model does not take these inputs: {str(exc).strip()[:300]}"


def load(path: Path, threads: int = 1) -> OnnxRunner:
    """A session that uses ``threads`` cores per call, and none between calls.

    Raises:
        onnxruntime's own errors: the file is missing or no ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads answer one caller faster and starve every other process on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return OnnxRunner(session)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(
        size if isinstance(size, int) else size or f"dim_{axis}" for axis, size in enumerate(value.shape)
    )
    return TensorSpec(value.name, _DTYPES.get(value.type, value.type), shape)


def _list(names: Any) -> str:
    return ", ".join(sorted(map(repr, names))) or "none"
