"""Static quantization of ONNX by onnxruntime: QuantizeLinear and DequantizeLinear around each layer.

The ranges of the activations are computed once; a search for the layers that need float reuses them.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..base import Arrays, Artefact
from ..errors import converting
from ..formats.torch_graph import quiet
from . import layers, onnx_graph, sensitivity
from .base import Data, Step

# More bins than onnxruntime's default of 128, with which its entropy method has one candidate only.
_EXTRA: Mapping[str, Mapping[str, Any]] = {
    "minmax": {},
    "entropy": {"num_bins": 512},
    "percentile": {"num_bins": 2048, "percentile": 99.99},
}
# onnxruntime's list without normalisations and softmax, whose integer forms cost accuracy and save nothing.
_OPERATORS = (
    *onnx_graph.LAYERS,
    *(
        "Add",
        "AveragePool",
        "Clip",
        "Concat",
        "Flatten",
        "GlobalAveragePool",
        "MaxPool",
        "Mul",
        "Pad",
        "Relu",
    ),
    *("Reshape", "Resize", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)


def apply(step: Step) -> tuple[Artefact, dict[str, Any]]:
    """Write the quantized model; see ``ArtefactTechnique.apply``.

    Raises:
        OptimizationFailed: ``keep_float`` names a layer that the model does not have, or no choice of layers
            keeps the accuracy.
    """
    import onnx

    data = step.data
    assert data is not None
    with (
        tempfile.TemporaryDirectory(dir=step.folder) as scratch,
        converting("onnxruntime cannot quantize this model", "static", _ADVICE),
        quiet(),
    ):
        quantizer = Quantizer(step, Path(scratch))
        quantizer.calibrate(data)
        kept = step.config["keep_float"]
        if kept == "auto":
            kept = sensitivity.keep_float(quantizer, data)
        else:
            layers.check_names(kept, [*quantizer.layers, *quantizer.recurrent])
        model = onnx.load(str(quantizer.quantized(kept)))
        quantized = onnx_graph.quantized_layers(model, quantizer.layers)
        artefact = onnx_graph.write(model, step, "int8")
    return artefact, layers.report(quantized, [*quantizer.layers, *quantizer.recurrent])


_ADVICE = " Use dynamic quantization, or remove optimization_config.quantization."


class Quantizer:
    """Quantizes one model with the same ranges and different layers in float."""

    def __init__(self, step: Step, folder: Path) -> None:
        import onnx

        self._config = step.config
        self._folder = folder
        self._ranges = folder / "ranges.json"
        self.float_path = onnx_graph.prepared(step, folder)
        model = onnx.load(str(self.float_path))
        self.layers, self.recurrent = onnx_graph.layers(model), onnx_graph.recurrent_layers(model)

    def calibrate(self, data: Data) -> None:
        """Compute the ranges of all activations, one batch after another."""
        from onnxruntime.quantization import create_calibrator, save_tensors_data

        method = self._config["calibration_method"]
        calibrator = create_calibrator(
            self.float_path,
            list(_OPERATORS),
            augmented_model_path=str(self._folder / "augmented.onnx"),
            calibrate_method=self._method(),
            extra_options=_EXTRA[method],
        )
        with contextlib.redirect_stdout(io.StringIO()):
            for batch in data.inputs(self._config["calibration_samples"]):
                calibrator.collect_data(_Reader(iter([batch])))  # at once, they would all stay in memory
            save_tensors_data(calibrator.compute_data(), self._ranges)

    def quantized(self, in_float: Sequence[str] = (), only: Sequence[str] = ()) -> Path:
        """Quantize all layers except ``in_float``, or ``only`` these nodes. The next call overwrites it."""
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        path = self._folder / "quantized.onnx"
        dtype = QuantType.QInt8 if self._config["dtype"] == "qint8" else QuantType.QUInt8
        quantize_static(
            str(self.float_path),
            str(path),
            None,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            per_channel=self._config["per_channel"],
            activation_type=dtype,
            weight_type=dtype,
            nodes_to_quantize=list(only),
            nodes_to_exclude=list(in_float),
            calibrate_method=self._method(),
            calibration_cache_path=str(self._ranges),
        )
        return path

    def _method(self) -> Any:
        from onnxruntime.quantization import CalibrationMethod

        names = {"minmax": "MinMax", "entropy": "Entropy", "percentile": "Percentile"}
        return CalibrationMethod[names[self._config["calibration_method"]]]


class _Reader:
    """A calibration data reader of onnxruntime."""

    def __init__(self, batches: Iterator[Arrays]) -> None:
        self._batches = batches

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)
