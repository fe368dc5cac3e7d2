"""The search for the layers that stay in float: as few as the accuracy on the dataset allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .. import runners
from ..errors import OptimizationFailed
from .base import Data

if TYPE_CHECKING:
    from .onnx_static import Quantizer

_ROWS = 64  # on which the layers are ranked


def keep_float(quantizer: Quantizer, data: Data) -> list[str]:
    """Return the layers to keep in float, in the order of the graph; none if the accuracy holds without.

    The layers are ranked by the error that each one's quantization alone causes in the outputs. The first 1,
    2, 4, ... of the ranking are tried, then the numbers between the last two.

    Raises:
        OptimizationFailed: even with a single quantized layer the accuracy drops more than it may.
    """

    def drop(kept: list[str]) -> float:
        return data.drop(runners.open_artefact("onnx", quantizer.quantized(kept)).predict)

    drops = {0: drop([])}
    if drops[0] <= data.allowed_drop:
        return []
    ranking = _ranking(quantizer, data)
    fails, holds = 0, None
    count = 1
    while count < len(ranking):
        drops[count] = drop(ranking[:count])
        if drops[count] <= data.allowed_drop:
            holds = count
            break
        fails, count = count, min(2 * count, len(ranking) - 1) if count < len(ranking) - 1 else len(ranking)
    if holds is None:
        least = min(drops, key=lambda number: drops[number])
        raise OptimizationFailed(
            f"Static quantization loses {drops[0]:.4f}, and {drops[least]:.4f} with {least} of "
            f"{len(ranking)} layers in float; allowed are {data.allowed_drop:g}. Use dynamic or float16, or "
            "calibrate with more samples.",
            drops={str(number): value for number, value in drops.items()},
        )
    while holds - fails > 1:
        middle = (holds + fails) // 2
        if drop(ranking[:middle]) <= data.allowed_drop:
            holds = middle
        else:
            fails = middle
    kept = set(ranking[:holds])
    return [name for name in quantizer.layers if name in kept]


def _ranking(quantizer: Quantizer, data: Data) -> list[str]:
    """Return the layers, the one whose quantization changes the outputs most first."""
    batches = list(data.inputs(_ROWS))
    exact = runners.open_artefact("onnx", quantizer.float_path)
    expected = [exact.predict(batch) for batch in batches]
    errors = {}
    for name in quantizer.layers:
        runner = runners.open_artefact("onnx", quantizer.quantized(only=[name]))
        found = [runner.predict(batch) for batch in batches]
        errors[name] = sum(
            float(np.square(left[key].astype(np.float64) - right[key].astype(np.float64)).sum())
            for left, right in zip(expected, found, strict=True)
            for key in left
        )
    return sorted(errors, key=lambda name: -errors[name])
