"""Run ONNX with onnxruntime, on the CPU or an NVIDIA GPU."""

from pathlib import Path
from typing import Any

from ..base import Arrays, TensorSpec
from . import InputError, Stop, mismatch

_DTYPES = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}


class OnnxRunner:
    """One session. onnxruntime itself checks names, dtypes, ranks and fixed sizes."""

    def __init__(self, session: Any) -> None:
        from onnxruntime import RunOptions
        from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

        self._session = session
        self._options = RunOptions
        self._refused = InvalidArgument
        self.inputs = tuple(map(_spec, session.get_inputs()))
        self.outputs = tuple(map(_spec, session.get_outputs()))
        self._names = [spec.name for spec in self.outputs]

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the model. Raises InputError for a wrong name, dtype or shape; or the runtime's own errors."""
        return self._run(inputs, None)

    def predict_until(self, inputs: Arrays, stop: Stop) -> Arrays:
        """See ``runners.predict_until``. onnxruntime stops between two nodes: a long node runs to its end."""
        options = self._options()
        stop.by(lambda: setattr(options, "terminate", True))
        return self._run(inputs, options)

    def _run(self, inputs: Arrays, options: Any) -> Arrays:
        try:
            return dict(zip(self._names, self._session.run(self._names, inputs, options), strict=True))
        except (self._refused, ValueError) as exc:
            wrong = mismatch(self.inputs, inputs)
            unknown = f"The model does not accept these inputs: {str(exc).strip()[:300]}"
            raise InputError(wrong or unknown) from exc


def load(path: Path, threads: int = 1, *, gpu: bool = False, spin: bool = False) -> OnnxRunner:
    """Open a session that uses ``threads`` cores per call, and none between calls.

    ``gpu``: use CUDA if available. ``spin``: see ``runners.load``.

    Raises:
        onnxruntime's own errors: the file is missing or no ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spin)))
    wanted = [*(["CUDAExecutionProvider"] if gpu else []), "CPUExecutionProvider"]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    return OnnxRunner(session)


def _spec(value: Any) -> TensorSpec:
    shape = tuple(
        size if isinstance(size, int) else size or f"dim_{axis}" for axis, size in enumerate(value.shape)
    )
    return TensorSpec(value.name, _DTYPES.get(value.type, value.type), shape)
