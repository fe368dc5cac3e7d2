"""Weights and arithmetic in float16: half the size. Inputs and outputs keep their dtypes."""

from typing import ClassVar

from .base import QUANTIZATION, ArtefactTechnique


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


TECHNIQUE = Float16()
