"""Run an ONNX model as its author wrote it: in onnxruntime, or in ONNX's reference implementation.

onnxruntime has no kernel for some operators, versions and dtypes that other runtimes support. Such models are
evaluated in numpy by ``onnx.reference``.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..base import Arrays
from ..errors import InvalidSource, as_limit
from .onnx_outputs import Decoder

_Run = Callable[[list[str], Arrays], list[Any]]


class Reference:
    """Callable as ``Source.reference``. ``program`` is the file to convert, ``run_by`` names the runtime."""

    def __init__(self, path: Path, model: Any, decoders: Mapping[str, Decoder]) -> None:
        """``model``: the model of ``path`` without external data; outputs with a decoder are already changed.

        Raises:
            InvalidSource: no runtime can run it.
        """
        self._names = [value.name for value in model.graph.output]
        self._decoders = decoders
        self.program = path
        if decoders:
            self._folder = tempfile.TemporaryDirectory()  # lives as long as this object
            self.program = _write(model, path, Path(self._folder.name))
        self._run, self.run_by = self._open(path)

    def __call__(self, arrays: Arrays) -> Arrays:
        found = dict(zip(self._names, self._run(self._names, arrays), strict=True))
        return found | {name: decode(found[name]) for name, decode in self._decoders.items()}

    def _open(self, path: Path) -> tuple[_Run, str]:
        try:
            return _in_onnxruntime(path), "the source model in onnxruntime, its graph unchanged"
        except Exception as exc:
            if limit := as_limit(exc):
                raise limit from exc
            failure = exc
        if self.program != path and (run := _tried(_in_onnxruntime, self.program)):
            self._decoders = {}
            return (
                run,
                "the source model in onnxruntime, without its ZipMap, which onnxruntime cannot run there",
            )
        if run := _tried(_in_numpy, path):
            return run, "the source model in ONNX's reference implementation: onnxruntime cannot run it"
        text = str(failure).replace(str(path), path.name).strip()
        raise InvalidSource(
            "Neither onnxruntime nor ONNX's reference implementation can run the model: "
            f"{text[:300]}. Export it again, with operators and dtypes of the ONNX standard."
        ) from failure


def _write(model: Any, path: Path, folder: Path) -> Path:
    import onnx

    onnx.load_external_data_for_model(model, str(path.parent))
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


def _tried(open_model: Callable[[Path], _Run], path: Path) -> _Run | None:
    try:
        return open_model(path)
    except Exception as exc:
        if limit := as_limit(exc):
            raise limit from exc
        return None


def _in_onnxruntime(path: Path) -> _Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    run: _Run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run
    return run


def _in_numpy(path: Path) -> _Run:
    """Return numpy's runner. Raises ValueError for an unknown opset, whose operators may differ."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))
    if evaluator.opsets.get("", 0) > onnx.defs.onnx_opset_version():
        raise ValueError("an unknown opset")
    run: _Run = evaluator.run
    return run
