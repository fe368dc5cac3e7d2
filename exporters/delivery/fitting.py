"""Which formats fit an edge package's platform or a container's server. Standard library only."""

from collections.abc import Mapping

# Target platform → the formats with a wrapper in its language, the best one first.
EDGE: Mapping[str, tuple[str, ...]] = {
    "ios": ("coreml", "tflite", "onnx"),
    "android": ("tflite", "onnx", "torchscript"),
    "linux-arm64": ("onnx", "tflite", "openvino", "torchscript", "tensorrt"),
}
# The platforms of one edge package, each with an export of its own.
BOTH = ("ios", "android")
# Server in the container → formats.
CONTAINER: Mapping[str, tuple[str, ...]] = {
    "model-service": ("onnx", "openvino", "torchscript", "tflite", "pt2", "pytorch", "pickle"),
    "triton": ("onnx", "openvino", "torchscript", "tensorrt"),
}
