"""Dynamic quantization: weights of 8 bits; activations are quantized, or stay in float, at run time."""

from typing import ClassVar

from ..formats.torch_to_coreml import COMPRESSED_TARGETS
from ..options import Option
from .base import QUANTIZATION, ArtefactTechnique, Rung


class Dynamic(ArtefactTechnique):
    section = QUANTIZATION
    method = "dynamic"
    fields: ClassVar = {
        "dtype": Option(
            "string",
            "qint8",
            "The integers of the weights: qint8, signed and symmetric; quint8, unsigned.",
            ("qint8", "quint8"),
        ),
        "per_channel": Option("boolean", True, "One scale per output channel of a weight."),
    }
    steps: ClassVar = {
        "onnx": "exporters.optimize.onnx_dynamic",
        "coreml": "exporters.optimize.coreml_weights",
    }
    by_option: ClassVar = {"openvino": {"precision": "INT8"}, "tflite": {"quantization": "dynamic"}}
    refused: ClassVar = {
        "tensorrt": "TensorRT has no dynamic quantization; the option precision has fp16.",
    }
    beside: ClassVar = {"coreml": {"minimum_deployment_target": COMPRESSED_TARGETS}}
    only: ClassVar = {"dtype": ("onnx",), "per_channel": ("onnx",)}
    modules: ClassVar = {"openvino": ("nncf",)}

    def rungs(self, format_name: str) -> tuple[Rung, ...]:
        return (Rung("dynamic", 20),)


TECHNIQUE = Dynamic()
