"""A network that computes as if it were quantized to 8 bits, so that its training adapts to the rounding."""

from __future__ import annotations

from typing import Any

_LEVELS = 255  # of an activation: uint8
_LARGEST = 127  # of a weight: int8, symmetric
# How fast the range of an activation follows the batches.
_MOMENTUM = 0.05
_LEAST_SCALE = 1e-12


def simulate(network: Any) -> int:
    """Replace the convolutions and linear layers of a network by simulated ones, in place. Returns how many.

    Their inputs and weights are rounded as static quantization rounds them: inputs with one range, which
    follows the batches of the training; weights with a scale for each output channel. Gradients pass the
    rounding unchanged (Jacob et al. 2018, arXiv:1712.05877).
    """
    import torch

    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)
    found = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, kinds)]
    for name, layer in found:
        _replace(network, name, _simulated(layer))
    return len(found)


def remove(network: Any) -> None:
    """Put the layers of the network back, with the weights that the training gave them."""
    for name, layer in [*network.named_modules()]:
        if hasattr(layer, "simulated_layer"):
            _replace(network, name, layer.simulated_layer)


def _replace(network: Any, name: str, layer: Any) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)


def _simulated(layer: Any) -> Any:
    import torch

    class Simulated(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.simulated_layer = layer
            self.register_buffer("low", torch.zeros(()))
            self.register_buffer("high", torch.zeros(()))

        def forward(self, value: Any) -> Any:
            if self.training:
                self._follow(value.detach())
            scale = ((self.high - self.low) / _LEVELS).clamp_min(_LEAST_SCALE)
            zero = (-self.low / scale).round().clamp(0, _LEVELS).to(torch.int32)
            rounded = torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, _LEVELS)
            weight = layer.weight
            largest = weight.detach().abs().flatten(1).amax(dim=1)
            scales = (largest / _LARGEST).clamp_min(_LEAST_SCALE)
            zeros = torch.zeros_like(scales, dtype=torch.int32)
            weight = torch.fake_quantize_per_channel_affine(weight, scales, zeros, 0, -_LARGEST, _LARGEST)
            return torch.func.functional_call(layer, {"weight": weight}, (rounded,))

        def _follow(self, value: Any) -> None:
            """Move the range towards that of a batch; zero is always in it."""
            low, high = value.amin().clamp_max(0), value.amax().clamp_min(0)
            first = self.low == self.high
            self.low.copy_(torch.where(first, low, self.low + _MOMENTUM * (low - self.low)))
            self.high.copy_(torch.where(first, high, self.high + _MOMENTUM * (high - self.high)))

    return Simulated()
