"""A network of this process as an exported program, which the sandboxed converter reads."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_service.model_deployment_service.errors import ModelExportError

if TYPE_CHECKING:
    from torch import nn

_BATCH = 2  # torch takes a size of 1 for a constant


def save_program(model: nn.Module, info: Mapping[str, Any], path: Path) -> None:
    """Write a copy of the network, in eval mode and on the CPU, as a program of ``torch.export``.

    The network itself is not changed.

    Raises:
        ModelExportError: it is no network, its inputs are unknown, or torch cannot export it.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        raise ModelExportError(f"The model is a {type(model).__name__}, not a torch.nn.Module.")
    try:
        network = copy.deepcopy(model).cpu().eval()
        inputs = _example_inputs(network, info)
        axes = tuple({0: torch.export.Dim.AUTO} for _ in inputs)
        with torch.no_grad():
            program = torch.export.export(network, inputs, dynamic_shapes=axes)
        torch.export.save(program, path)
    except ModelExportError:
        raise
    except Exception as exc:  # of any kind: it runs the network's own code
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise ModelExportError(
            f"torch.export cannot export {type(model).__name__}: {reason[:300]}. If its inputs have another "
            "shape, set 'input_shape' or 'example_inputs' of model_info."
        ) from exc


def _example_inputs(network: nn.Module, info: Mapping[str, Any]) -> tuple[Any, ...]:
    import torch

    given = info.get("example_inputs")
    if given is not None:
        tensors = tuple(given) if isinstance(given, (tuple, list)) else (given,)
        if not all(isinstance(tensor, torch.Tensor) and tensor.dim() > 0 for tensor in tensors):
            raise ModelExportError(
                "model_info['example_inputs'] must be a tensor, or a tuple of tensors, with the batch first."
            )
        batches = (torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in tensors)
        return tuple(batch.cpu() for batch in batches)
    shape = info.get("input_shape")
    shape = _first_shape(network) if shape is None else shape
    dtype = next((one.dtype for one in network.parameters() if one.is_floating_point()), torch.float32)
    return (torch.randn((_BATCH, *shape), generator=torch.Generator().manual_seed(0)).to(dtype),)


def _first_shape(network: nn.Module) -> tuple[int, ...]:
    """Return the shape of a row that the first layer with weights takes, if it is linear."""
    import torch

    for layer in network.modules():
        if not any(True for _ in layer.parameters(recurse=False)):
            continue
        if isinstance(layer, torch.nn.Linear):
            return (layer.in_features,)
        break
    raise ModelExportError(
        "The network's first layer is not linear, so its input's shape is unknown: set 'input_shape' of "
        "model_info to the shape of one row, such as [1, 28, 28]."
    )
