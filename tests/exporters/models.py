"""Tiny models that between them have what breaks exporters: convolutions, batch norm, integers, two inputs,
several named outputs, two dynamic axes, and a batch that is fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from torch.export import Dim


class ConvNet(nn.Module):
    """float32[batch, 1, 8, 8] → float32[batch, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(4 * 16, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(image).flatten(1))


class Mlp(nn.Module):
    """float32[batch, 6] → float32[batch, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Reader(nn.Module):
    """int64[batch, length] and float32[batch, 1] → two named outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.score = nn.Linear(8, 4)

    def forward(self, tokens: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.score(self.embed(tokens).mean(1))
        return {"scores": scores, "scaled": scores * scale}


@dataclass(frozen=True)
class Sample:
    """One model in one file format, and what an export of it has to show."""

    id: str
    suffix: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[torch.Tensor, ...]]
    dynamic: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, list[int | str]] = field(default_factory=dict)
    outputs: dict[str, list[int | str]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return "pt2" if self.suffix == ".pt2" else "torchscript"

    @property
    def dtypes(self) -> list[str]:
        return [str(tensor.dtype).removeprefix("torch.") for tensor in self.inputs()]

    def arrays(self, rows: int) -> dict[str, npt.NDArray[Any]]:
        """Other inputs than the export was made with."""
        torch.manual_seed(1)
        tensors = self.inputs()
        return {
            name: torch.cat([tensor] * rows)[:rows].numpy()
            for name, tensor in zip(self.shapes, tensors, strict=True)
        }

    def answers(self, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Of the model as it was built, in this process."""
        torch.manual_seed(0)
        model = self.build().eval()
        with torch.no_grad():
            answer = model(*map(torch.from_numpy, arrays.values()))
        named = answer if isinstance(answer, dict) else {"output": answer}
        return {name: tensor.numpy() for name, tensor in named.items()}

    def save(self, path: Path) -> Path:
        torch.manual_seed(0)
        model, inputs = self.build().eval(), self.inputs()
        if self.suffix == ".pt2":
            torch.export.save(torch.export.export(model, inputs, dynamic_shapes=self.dynamic), path)
        else:
            torch.jit.save(torch.jit.script(model), path)
        return path


def _image() -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 1, 8, 8),)


def _row() -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 6),)


def _sentence() -> tuple[torch.Tensor, ...]:
    return torch.randint(0, 50, (2, 5)), torch.randn(2, 1)


SAMPLES = (
    Sample(
        "conv-pt2",
        ".pt2",
        ConvNet,
        _image,
        dynamic={"image": {0: Dim("batch", max=64)}},
        shapes={"image": ["batch", 1, 8, 8]},
        outputs={"output": ["batch", 10]},
    ),
    Sample(
        "conv-torchscript",
        ".pt",
        ConvNet,
        _image,
        options={"inputs": [{"shape": ["batch", 1, 8, 8], "dtype": "float32"}]},
        shapes={"image": ["batch", 1, 8, 8]},
        outputs={"output": ["batch", 10]},
    ),
    Sample(
        "mlp-pt2",
        ".pt2",
        Mlp,
        _row,
        dynamic={"x": {0: Dim("batch")}},
        shapes={"x": ["batch", 6]},
        outputs={"output": ["batch", 3]},
    ),
    Sample("fixed-pt2", ".pt2", Mlp, _row, shapes={"x": [2, 6]}, outputs={"output": [2, 3]}),
    Sample(
        "reader-pt2",
        ".pt2",
        Reader,
        _sentence,
        dynamic={"tokens": {0: Dim("batch"), 1: Dim("length", min=2)}, "scale": {0: Dim("batch")}},
        shapes={"tokens": ["batch", "tokens_dim_1"], "scale": ["batch", 1]},
        outputs={"scores": ["batch", 4], "scaled": ["batch", 4]},
    ),
)

# What a format needs to be made here.
FORMAT_OPTIONS: dict[str, dict[str, Any]] = {"tensorrt": {"build_on_target": True}}


def options_of(sample: Sample, format_name: str) -> dict[str, Any]:
    return {**sample.options, **FORMAT_OPTIONS.get(format_name, {})}
