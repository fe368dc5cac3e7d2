"""Lets torchvision be imported beside a torch for the CPU alone, for which no build of it is published.

timm and Ultralytics need its Python part. What its native part would declare when it loads is declared here
when ``torchvision`` is first imported. Run as a script, this makes the environment it runs in do so:
``scripts/test`` does.
"""

import sys
import sysconfig
from importlib.abc import MetaPathFinder
from pathlib import Path

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


class _Declare(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            for operator in _OPERATORS:
                self.library.define(operator)
            _KEPT.append(self)


_KEPT: list[MetaPathFinder] = []  # a library's declarations end with it

if __name__ == "__main__":
    target = Path(sysconfig.get_path("purelib")) / "torchvision_operators.pth"
    target.write_text(f"{Path(__file__).parent.resolve()}\nimport torchvision_operators\n")
else:
    sys.meta_path.insert(0, _Declare())
