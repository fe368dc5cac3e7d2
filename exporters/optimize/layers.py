"""The report of a quantizer's layers."""

from collections.abc import Collection, Sequence
from typing import Any

from ..errors import OptimizationFailed


def report(quantized: Collection[str], every: Sequence[str]) -> dict[str, Any]:
    """Return which layers have integer weights and which are in float.

    Raises:
        OptimizationFailed: none has integer weights.
    """
    if not quantized:
        raise OptimizationFailed(
            "The quantizer left every layer of the model in float: "
            f"{', '.join(every[:20]) or 'it has none'}. Remove optimization_config.quantization.",
            layers=list(every),
        )
    return {
        "layers": {
            "quantized": [name for name in every if name in quantized],
            "float": [name for name in every if name not in quantized],
        }
    }


def check_names(names: Sequence[str], every: Sequence[str]) -> None:
    """Raises OptimizationFailed for a name in ``keep_float`` that no layer has."""
    for name in names:
        if name not in every:
            raise OptimizationFailed(
                f"keep_float names {name!r}, but the model's layers are {', '.join(every[:50])}.",
                layers=list(every),
            )
