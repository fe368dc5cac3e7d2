"""The small things tests need many of."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from model_service.api.schemas.models import NewModel

if TYPE_CHECKING:
    import torch


# A stored document of any collection, as a test reads or writes it.
Document = dict[str, Any]


def new_model(**fields: Any) -> dict[str, Any]:
    """A registration's JSON."""
    return {
        "name": "digits",
        "algorithm": "convnet",
        "framework": "pytorch",
        "metrics": {"accuracy": 0.9},
    } | fields


def model_fields(**fields: Any) -> dict[str, Any]:
    """The same, complete, as the API hands it to the service."""
    return NewModel(**new_model(**fields)).model_dump()


def scaling_model(factor: float = 2.0) -> torch.nn.Module:
    """float32[batch, 3] → scores float32[batch, 3]: its input times ``factor``."""
    import torch

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    return Scale().eval()


def scaling_script() -> bytes:
    """The scaling model as TorchScript."""
    import torch

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(scaling_model()), file)
    return file.getvalue()


def scaling_program(factor: float = 2.0) -> bytes:
    """The scaling model as a torch.export program."""
    import torch

    batch = torch.export.Dim("batch", min=1, max=8192)
    model = scaling_model(factor)
    program = torch.export.export(model, (torch.zeros(2, 3),), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()
