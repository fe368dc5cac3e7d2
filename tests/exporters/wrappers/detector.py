"""A detector of images, and its declared processing."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

CLASSES = ["cat", "dog", 'it\'s "a" {{ bird }}']
PREPROCESSING: dict[str, Any] = {
    "resize": {"method": "letterbox", "size": [32, 32], "stride": 32},
    "normalize": {"mean": [0.0], "std": [255.0]},
}
POSTPROCESSING: dict[str, Any] = {"nms": {"confidence_threshold": 0.5}}


class Detector(nn.Module):
    """float32[batch, 3, 32, 32] to float32[batch, 4 + 3, 16]: boxes in pixels, scores by a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 7, 8, stride=8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        values = self.features(image).flatten(2)
        return torch.cat([values[:, :4].sigmoid() * 32, values[:, 4:].sigmoid()], 1)


def save(model: nn.Module, path: Path) -> Path:
    """As a program whose batch is from 1 to 64."""
    dynamic = ({0: torch.export.Dim("batch", max=64)},)
    torch.export.save(torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes=dynamic), path)
    return path
