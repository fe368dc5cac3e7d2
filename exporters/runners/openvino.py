"""Run OpenVINO IR with OpenVINO's own runtime, on the CPU or an Intel GPU."""

import json
import os
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any

from ..base import Arrays, TensorSpec
from ..imports import import_silently
from . import InputError, mismatch

# The place in the IR for the names of dynamic axes, which OpenVINO does not have: JSON, name → axes.
AXES_INFO = ["model_info", "axes"]
DTYPES = {
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "boolean": "bool",
}
# More would only use memory: every stream holds the activations of one call.
_MAX_STREAMS = 4


def runtime() -> Any:
    """Return the package ``openvino``."""
    return import_silently("openvino")


class OpenVinoRunner:
    """One compiled model; concurrent calls have an infer request each."""

    def __init__(self, model: Any, compiled: Any) -> None:
        axes = _axes(model)
        self.inputs = tuple(_spec(port, axes) for port in model.inputs)
        self.outputs = tuple(_spec(port, axes) for port in model.outputs)
        self._compiled = compiled
        self._idle: LifoQueue[Any] = LifoQueue()

    def predict(self, inputs: Arrays) -> Arrays:
        """Run the model. Raises InputError for a wrong name, dtype or shape; or the runtime's own errors."""
        wrong = mismatch(self.inputs, inputs)
        if wrong:
            raise InputError(wrong)
        for name, array in inputs.items():
            if not array.size:  # a quantized network would return its previous result
                raise InputError(f"The input {name!r} is empty: OpenVINO needs at least one row.")
        try:
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            # By position: two outputs may be one tensor with a shared name. The results are copies.
            answers = request.infer([inputs[spec.name] for spec in self.inputs], share_outputs=False)
            return {spec.name: answers[index] for index, spec in enumerate(self.outputs)}
        finally:
            self._idle.put(request)


def load(path: Path, threads: int = 1, *, gpu: bool = False) -> OpenVinoRunner:
    """Load a model that uses ``threads`` cores per call; it computes in float32 and writes no cache.

    ``gpu``: use the GPU, if OpenVINO finds one.

    Raises:
        RuntimeError: OpenVINO's, for a file that is missing or no IR.
    """
    openvino = runtime()
    core = openvino.Core()
    model = core.read_model(path)
    if gpu and "GPU" in core.available_devices:
        return OpenVinoRunner(model, core.compile_model(model, "GPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    streams = 1 if _is_compressed(model) else min(_MAX_STREAMS, max(1, (os.cpu_count() or 1) // threads))
    # By default, if the processor supports it, the CPU plugin computes in bfloat16, or quantizes activations
    # beside compressed weights: that is faster, and off by 1e-2.
    compiled = core.compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": streams * threads,
        },
    )
    return OpenVinoRunner(model, compiled)


def _is_compressed(model: Any) -> bool:
    """Return whether weights have 8 bits: with several streams, their convolutions are wrong (2026.4)."""
    return any(
        node.get_type_name() == "Constant" and node.get_element_type().get_type_name() in ("i8", "u8")
        for node in model.get_ops()
    )


def _axes(model: Any) -> dict[str, list[int | str]]:
    if not model.has_rt_info(AXES_INFO):
        return {}
    found: dict[str, list[int | str]] = json.loads(model.get_rt_info(AXES_INFO).astype(str))
    return found


def _spec(port: Any, axes: dict[str, list[int | str]]) -> TensorSpec:
    """Use the node's name, not its tensor's: an output that is an unchanged input has the names of both."""
    name = port.node.get_friendly_name()
    named = axes.get(name, [])
    shape = tuple(
        size.get_length() if size.is_static else named[axis] if axis < len(named) else f"dim_{axis}"
        for axis, size in enumerate(port.partial_shape)
    )
    dtype = port.element_type.get_type_name()
    return TensorSpec(name, DTYPES.get(dtype, dtype), shape)
