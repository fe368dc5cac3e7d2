"""The small things tests need many of."""

import io
from typing import Any

from model_service.api.schemas.models import NewModel


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


def scaling_program(factor: float = 2.0) -> bytes:
    """A torch.export program, float32[batch, 3] → scores float32[batch, 3]: its input times ``factor``."""
    import torch

    class Scale(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(Scale().eval(), (torch.zeros(2, 3),), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()
