"""Static quantization: weights and activations of 8 bits, whose ranges come from a calibration dataset."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import UnsupportedOption
from ..options import Option
from .base import CALIBRATION, QUANTIZATION, ArtefactTechnique, Rung

# The recipes that quantize every layer: equal in size and latency, but not in accuracy.
EVERY_LAYER = ("static", "static, entropy", "static, percentile")


class Static(ArtefactTechnique):
    section = QUANTIZATION
    method = "static"
    reads: ClassVar[tuple[str, ...]] = (CALIBRATION,)
    fields: ClassVar = {
        "calibration_dataset_id": Option(
            "string", None, "The dataset whose inputs determine the ranges of the activations."
        ),
        "calibration_samples": Option(
            "integer", 100, "How many of its rows are used, chosen with a fixed seed.", (1, 100_000)
        ),
        "dtype": Option(
            "string",
            "qint8",
            "The integers of the weights: qint8, signed and symmetric; quint8, unsigned.",
            ("qint8", "quint8"),
        ),
        "per_channel": Option("boolean", True, "One scale per output channel of a weight."),
        "calibration_method": Option(
            "string",
            "minmax",
            "How the range of an activation is chosen from its values: all of them, the range that loses the "
            "least information, or all but the outermost 0.01 %.",
            ("minmax", "entropy", "percentile"),
        ),
        "keep_float": Option(
            "array",
            [],
            "The layers that stay in float, by the names in the report of an earlier export, or "
            "auto: those that the accuracy on the dataset needs in float.",
            also=("auto",),
        ),
    }
    steps: ClassVar = {
        "onnx": "exporters.optimize.onnx_static",
        "openvino": "exporters.optimize.openvino_static",
        "tflite": "exporters.optimize.tflite_static",
    }
    refused: ClassVar = {
        "coreml": "Core ML's activations can be quantized only on macOS; dynamic quantizes the weights.",
        "tensorrt": "The engine cannot run here, so that its accuracy could not be measured; "
        "the option precision has fp16.",
    }
    only: ClassVar = {
        "dtype": ("onnx",),
        "per_channel": ("onnx",),
        "calibration_method": ("onnx",),
        "keep_float": ("onnx", "openvino"),
    }
    beside: ClassVar = {
        "openvino": {"precision": (None, "FP32")},
        "tflite": {"quantization": ("none", "full_integer")},
    }
    modules: ClassVar = {"openvino": ("nncf",)}

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        super().check(format_name, config)
        kept = config["keep_float"]
        if isinstance(kept, list) and not all(isinstance(name, str) for name in kept):
            raise UnsupportedOption(
                'keep_float must be a list of names of layers, or "auto".',
                allowed=["auto"],
                option="keep_float",
            )

    def rungs(self, format_name: str) -> tuple[Rung, ...]:
        found = [Rung(EVERY_LAYER[0], 30)]
        if format_name in self.only["calibration_method"]:
            found += [
                Rung(EVERY_LAYER[number], 30 + number, {"calibration_method": method}, EVERY_LAYER[:number])
                for number, method in ((1, "entropy"), (2, "percentile"))
            ]
        if format_name in self.only["keep_float"]:
            found.append(Rung("static, keep_float auto", 40, {"keep_float": "auto"}, EVERY_LAYER))
        return tuple(found)


TECHNIQUE = Static()
