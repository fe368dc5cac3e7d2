"""Weights and arithmetic in float16: half the size. Inputs and outputs keep their dtypes."""

from typing import ClassVar

from .base import QUANTIZATION, ArtefactTechnique, Rung


class Float16(ArtefactTechnique):
    section = QUANTIZATION
    method = "float16"
    fields: ClassVar = {}
    steps: ClassVar = {"onnx": "exporters.optimize.onnx_float16"}
    by_option: ClassVar = {
        "openvino": {"precision": "FP16"},
        "coreml": {"precision": "float16"},
        "tensorrt": {"precision": "fp16"},
    }

    def rungs(self, format_name: str) -> tuple[Rung, ...]:
        return (Rung("float16", 10),)


TECHNIQUE = Float16()
