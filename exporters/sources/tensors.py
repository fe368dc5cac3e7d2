"""Convert torch's tensors to numpy arrays, and name the outputs of a model."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InvalidSource

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


def dtype_name(dtype: Any) -> str:
    """Return ``float32`` for ``torch.float32``.

    Raises:
        InvalidSource: a dtype that numpy and runtime inputs do not have, like bfloat16.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InvalidSource(
            f"The model takes or returns {name}, which cannot be exported. Cast to float32 inside its "
            "forward()."
        )
    return name


def to_torch(array: npt.NDArray[np.generic]) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def to_numpy(tensor: Any) -> npt.NDArray[np.generic]:
    """Return a copy: the model may write into its own output on the next call."""
    dtype_name(tensor.dtype)
    array: npt.NDArray[np.generic] = tensor.detach().cpu().numpy().copy()
    return array


def flatten_outputs(value: Any, inputs: Collection[str]) -> dict[str, Any]:
    """Name the outputs: ``output`` for one value, a dictionary's keys, ``output_0`` … for a sequence.

    The order is torch's. A name that is also an input's gets ``_output`` appended: an artefact has one name
    space for both.

    Raises:
        InvalidSource: no output, or two with one name.
    """
    pairs = [(f"{name}_output" if name in inputs else name, part) for name, part in _flatten("", value)]
    named = dict(pairs)
    if not pairs or len(named) != len(pairs):
        raise InvalidSource(
            "The model returns no tensor, or two with the same name. Return a tensor or a flat dictionary."
        )
    return named


def _flatten(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        parts = [(f"{name}_{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, (tuple, list)):
        parts = [(f"{name or 'output'}_{index}", part) for index, part in enumerate(value)]
    else:
        return [] if value is None else [(name or "output", value)]
    return [pair for part in parts for pair in _flatten(*part)]
