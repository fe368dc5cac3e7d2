"""Operators that onnxruntime lacks for float64, or computes in float32, in a graph with float64 input."""

from pathlib import Path
from typing import Any

from ..errors import ConversionFailed

ADVICE = "Export without float64, or export pickle, which supports float64 and runs the estimator itself."
_DOUBLE, _FLOAT = "tensor(double)", "tensor(float)"


def float32_operators(model: Any) -> list[str]:
    """Return the graph's operators that take float64 but compute and return float32."""
    from onnx import defs

    versions = {one.domain: one.version for one in model.opset_import}
    found = set()
    for node in model.graph.node:
        try:
            schema = defs.get_schema(node.op_type, versions[node.domain], node.domain)
        except (KeyError, defs.SchemaError):
            continue
        allowed = {one.type_param_str: one.allowed_type_strs for one in schema.type_constraints}
        takes = any(_DOUBLE in allowed.get(one.type_str, ()) for one in schema.inputs)
        if takes and any(one.type_str == _FLOAT for one in schema.outputs):
            found.add(node.op_type)
    return sorted(found)


def require_kernels(path: Path) -> None:
    """Raises ConversionFailed if onnxruntime has an operator of the file for float32 only."""
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Absent

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Absent as exc:
        name = str(exc).partition("implementation for ")[2].partition("(")[0] or "an operator"
        raise ConversionFailed(f"onnxruntime has no {name} for float64. {ADVICE}") from exc
