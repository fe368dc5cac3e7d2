"""Float inputs on the ties of a program that rounds: halves, whole numbers, halves of its steps.

A quantizer rounds x / step. A runtime that multiplies by 1 / step instead misses the tie by one digit and
returns the neighbour; almost no random input shows that. If the step follows from the range of the inputs
(DynamicQuantizeLinear), the ties are odd multiples of a 510th of the range.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..base import Arrays, Case, copied
from .probing import Prober

_ROUNDING = {
    *("round", "floor", "ceil", "trunc", "floor_divide", "fmod", "remainder"),
    *("quantizelinear", "dynamicquantizelinear", "quantize_per_tensor", "fake_quantize_per_tensor_affine"),
}
_MOVING = {
    *("cast", "castlike", "identity", "constant", "reshape", "transpose", "squeeze", "unsqueeze", "concat"),
    *("shape", "expand", "slice", "gather", "flatten"),
}
_MOST_STEPS = 4
_FEW_ELEMENTS = 1_024  # values that all ranges of a small input have together
_LEVELS = 510


def probes(prober: Prober, base: Case) -> list[Case]:
    """Return the cases, with the sizes of ``base``, that the source accepts; none if it does not round."""
    source = prober.source
    floats = [spec.name for spec in source.inputs if np.dtype(spec.dtype).kind == "f"]
    if not source.operators & _ROUNDING or not floats:
        return []
    size = max(base.inputs[name].size for name in floats)
    steps = (0.5, *(step / 2 for step in source.steps[:_MOST_STEPS]))
    labelled = [(f"multiples of {step:g}", _multiples(size, step)) for step in steps]
    labelled += [(f"range {number}", values) for number, values in enumerate(_ranges(size, prober.seed))]
    cases = []
    for label, values in labelled:
        inputs: Arrays = dict(base.inputs)
        for name in floats:
            array = base.inputs[name]
            inputs[name] = np.resize(values, array.shape).astype(array.dtype)
        case = prober.probe(f"ties: {label}", inputs, "ties")
        cases += [case] if case is not None else []
    return cases


def infinities(prober: Prober, base: Case) -> list[Case]:
    """Probe both infinities if the program only moves and converts values: they must come out unchanged."""
    operators = prober.source.operators
    if not operators or not operators <= _MOVING:
        return []
    inputs = copied(base.inputs)
    for array in inputs.values():
        if array.dtype.kind == "f":
            array.flat[:1], array.flat[1:2] = np.inf, -np.inf
    case = prober.probe("infinities", inputs, "extremes")
    return [case] if case is not None else []


def _multiples(size: int, step: float) -> npt.NDArray[np.float64]:
    """Return multiples of ``step`` around zero; for a small input, halves first."""
    count = min(size, 512)
    odd = 2 * np.arange(count) - count + 1 - count % 2
    return np.concatenate([odd, 2 * np.arange(count) - count])[: max(size, 1)] * step


def _ranges(size: int, seed: int) -> Iterator[npt.NDArray[np.float64]]:
    """Yield both ends of a range and ties in it, counted from its end and from zero.

    A small input gets several ranges.
    """
    random = np.random.default_rng(seed)
    for _ in range(max(1, min(16, _FEW_ELEMENTS // max(size, 1)))):
        low, high = -4 * random.random(), 4 * random.random()
        odd = 2 * random.integers(0, _LEVELS // 2, max(size, 2)) + 1
        values = low + (high - low) * odd / _LEVELS
        step = (high - low) / (_LEVELS // 2)
        values[1::2] = np.clip((np.floor(values[1::2] / step) + 0.5) * step, low, high)
        values[:2] = low, high
        yield values
