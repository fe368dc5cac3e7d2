"""What the formats that stay in torch are tested with."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from exporters.request import ExportRequest

ROOT = Path(__file__).parents[3]


class Reshaping(nn.Module):
    """float32[batch, 8] → float32[2*batch, 4] and float32[batch, 8]: a trace loses the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        wide = x * self.scale
        return wide.view(x.shape[0], 2, 4).reshape(x.shape[0] * 2, 4), wide


class Tied(nn.Module):
    """float32[batch, 6] → float32[batch, 6], of a weight with two names, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.rand(6), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu()) + self.shift


def save_program(model: nn.Module, columns: int, path: Path) -> Path:
    torch.manual_seed(0)
    dynamic = {"x": {0: Dim("batch")}}
    torch.export.save(
        torch.export.export(model.eval(), (torch.randn(2, columns),), dynamic_shapes=dynamic), path
    )
    return path


def export_elsewhere(requests: list[ExportRequest]) -> None:
    """In another process, after it has compiled something else: its counters are not ours."""
    code = (
        "import json, sys, torch\n"
        "from exporters.request import ExportRequest\n"
        "from exporters.convert import run\n"
        "torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()))\n"
        "for request in json.load(sys.stdin): run(ExportRequest.from_json(request))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        input=json.dumps([request.to_json() for request in requests]),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-2000:]
