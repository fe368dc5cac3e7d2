"""Declare torchvision's operators if its native part does not load.

timm, Ultralytics and transformers import torchvision. The build on PyPI is for a torch with CUDA. With a
torch without CUDA its native part does not load, and ``import torchvision`` fails with ``operator
torchvision::nms does not exist``. These libraries need its Python part only, which works once the operators
are declared. If the native part loads, this module does nothing.
"""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# torchvision imports this module after its native part; it fails if the operators are missing.
_NEEDS_THEM = "torchvision._meta_registrations"


class _Declare(MetaPathFinder):
    """An import hook that finds nothing, but declares the operators before they are needed."""

    library: Any = None  # the declarations live as long as this object

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == _NEEDS_THEM and self.library is None:
            import torch

            if not hasattr(torch.ops.torchvision, "nms"):
                self.library = torch.library.Library("torchvision", "DEF")
                for operator in _OPERATORS:
                    self.library.define(operator)
        return None


def install() -> None:
    """Arrange that importing torchvision declares the operators. Imports nothing itself."""
    if not any(isinstance(finder, _Declare) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Declare())
