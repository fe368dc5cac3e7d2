"""Declare torchvision's operators where its native part does not load.

timm, Ultralytics and transformers import torchvision. The build on PyPI is for a torch with CUDA. Beside a
torch without it the native part does not load, and ``import torchvision`` ends in ``operator torchvision::nms
does not exist``. These libraries need its Python part only, which works once the operators are declared.
Where the native part loads, nothing happens here.
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
# The module that torchvision imports after its native part, and that fails where the operators are missing.
_NEEDS_THEM = "torchvision._meta_registrations"


class _Declare(MetaPathFinder):
    """Find nothing; declare the operators before the module that needs them is imported."""

    library: Any = None  # the declarations end with this object

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
    """Have the operators declared when this process imports torchvision. Imports nothing itself."""
    if not any(isinstance(finder, _Declare) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Declare())
