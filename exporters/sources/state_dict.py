"""Weights without their network, from torch.save or safetensors; the request names the network."""

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base import Source
from ..errors import InvalidSource, UnsafeCheckpoint, as_limit, reason
from ..request import Trust
from . import architectures, eager

# The keys under which training loops store the weights, beside optimizer and counters.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# The prefixes that DistributedDataParallel and torch.compile add to every name.
_PREFIXES = ("module.", "_orig_mod.")
_ADVICE = "Save the weights with torch.save(model.state_dict(), path) or safetensors, and upload that."


def load(path: Path, options: Mapping[str, Any], trust: Trust) -> Source:
    """Load the weights into their network.

    Raises:
        UnsafeCheckpoint: more than tensors and plain values, or a class that the operator does not allow.
        InvalidSource: damaged, no weights, or not those of the architecture.
        UnsupportedOption: no architecture, an unknown one, or inputs that it does not take.
    """
    architecture = architectures.parse(options.get("architecture"))
    weights = read(path)
    return eager.load("state_dict", architecture.build(weights, path.parent, options, trust))


def read(path: Path) -> dict[str, Any]:
    """Return names → tensors, without the prefixes and keys of wrappers. Runs no code of the file.

    Raises UnsafeCheckpoint, InvalidSource.
    """
    with path.open("rb") as file:
        is_safetensors = file.read(9)[8:9] == b"{"
    found = _read_safetensors(path) if is_safetensors else _read_pickled(path)
    for key in _WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    return _plain(found)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as exc:
        raise as_limit(exc) or InvalidSource(
            f"The safetensors file is not readable: {str(exc)[:200]}. If it was cut short, upload "
            "it again. If not, save the weights in dtypes that torch supports."
        ) from exc


def _read_pickled(path: Path) -> Any:
    """Read with torch's unpickler for weights: tensors, plain values, and the arguments that timm adds."""
    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as exc:
        raise UnsafeCheckpoint(
            f"The file contains more than weights, and loading it could run code. {_ADVICE}"
        ) from exc
    except Exception as exc:
        raise as_limit(exc) or InvalidSource(
            f"torch cannot read the weights: {reason(exc)}. {_ADVICE}"
        ) from exc


def _plain(found: Any) -> dict[str, Any]:
    import torch

    if not isinstance(found, dict) or not found:
        raise InvalidSource(f"The file contains no dictionary of weights. {_ADVICE}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise InvalidSource(
                f"The file contains {str(name)[:80]!r}, a {type(value).__name__}, instead of "
                f"weights. Weights must be at the top level, or under {', '.join(_WRAPPERS)}. "
                f"{_ADVICE}"
            )
    weights: dict[str, Any] = dict(found)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights
