"""What both kinds of pruning declare. The pruned network is not trained again."""

from collections.abc import Mapping
from typing import Any

from ..errors import UnsupportedOption
from ..options import Option
from .base import PRUNING, SourceTechnique

# The formats whose conversion starts from a network of torch.
_FORMATS = ("onnx", "openvino", "tflite", "coreml", "tensorrt", "torchscript", "pt2", "pytorch")
SPARSITY = Option("number", None, "The share that is removed of each layer.", (0.01, 0.99))


class Pruning(SourceTechnique):
    section = PRUNING

    def why_not(self, format_name: str) -> str | None:
        if format_name in _FORMATS:
            return None
        return f"Only networks of torch can be pruned; {format_name} is for other models."

    def check(self, format_name: str, config: Mapping[str, Any]) -> None:
        """Raises UnsupportedOption if ``sparsity`` is missing."""
        if config["sparsity"] is None:
            raise UnsupportedOption(
                f"{self.method} pruning needs sparsity, the share to remove: a number from 0.01 to 0.99.",
                allowed=SPARSITY.explain(),
                option="sparsity",
            )
